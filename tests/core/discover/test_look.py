"""A model at first contact: right figures on the face model, and a failure that is said instead of raised."""

import dataclasses

import pytest

from core.cli.check import _parts_of, check_model, main
from core.discover.check_lines import report_of
from core.discover.look import QUICK, calls_of, look_at, steps_for
from core.measure.check_report import BAD
from core.measure.fitness import ModelTraits


@pytest.fixture(scope="module")
def looks():
    """A quick look at the network of the tests, which draws its own picture."""
    from core.api import load

    model = load("face_model")
    parts = _parts_of(model)
    steps: list[dict] = []
    return model, parts, look_at(model, parts, None, QUICK, callback=steps.append), steps


def test_the_face_model_is_what_it_is(looks):
    _, parts, found, steps = looks
    assert parts.side == 64 and found.size == (3, 64, 64) and found.drawn and not found.failures
    assert found.cuts[0].layer == "middle" and found.cuts[0].shape == (160, 8, 8) and found.cuts[0].error < 1e-5
    assert found.level == pytest.approx(0.85) and found.clean < 0.1
    (back,) = found.returned
    assert back.steps == 20 and back.calls == 41 and back.psnr > 35
    exact = found.derivatives
    assert exact.exact and exact.gap < 1e-5 and exact.chunk >= 1 and 0 < exact.one <= exact.several
    assert exact.seconds > 0 and exact.span[0] < exact.span[1]
    assert 40 < len(steps) and calls_of(QUICK) < calls_of("full")


def test_the_first_line_says_what_to_do(looks):
    _, parts, found, _ = looks
    report = report_of(parts, found, 0.85, [("torch", "2.6")])
    assert report.verdict.startswith("Works. Next: Invert Image at 64x64 (about ")
    assert "then Discover Region Directions" in report.verdict and report.is_good
    names = [line.name for line in report.lines]
    assert names[0] == "family" and "inversion, 20 steps" in names and "five directions" in names
    assert any("window 3.4 to 0.1" in line.value for line in report.lines)
    assert ("fingerprint", parts.fingerprint) in report.facts


def test_what_fails_is_said_and_the_rest_is_measured(looks):
    model, parts, before, _ = looks

    class Broken:
        layers, fingerprint, noising = model.layers, model.fingerprint, model.noising

        def __call__(self, x, sigma):
            return model(x, sigma)

        def split(self, x, sigma, layer="middle", smooth=False):
            raise RuntimeError("the halves differ at /home/somebody/models/a.pth")

    found = look_at(Broken(), parts, before.picture, QUICK)
    assert set(found.failures) == {"layer middle", "layer up.3", "derivatives"} and found.returned
    report = report_of(parts, found, 0.85, [])
    assert report.verdict.startswith("Does not work as it is: layer middle") and not report.is_good
    assert "somebody" not in str(report.facts) and "(a path)" in str(report.facts)


def test_cancel_goes_through(looks):
    model, parts, _, _ = looks

    class Cancelled(Exception):
        pass

    def stop(_):
        raise Cancelled

    with pytest.raises(Cancelled):
        look_at(model, parts, None, QUICK, callback=stop)


def test_a_strange_transformer_can_be_inverted_and_resumed(looks):
    _, parts, _, _ = looks
    traits = ModelTraits("Strange", cut=False, unet=False, flow=True, latent=True)
    flow = dataclasses.replace(parts, layers=(), traits=traits, levels=(0.001, 1.0), shape=(4, 8, 8))

    class Straight:
        layers, fingerprint, noising = (), "0" * 12, "flow"

        def __call__(self, x, sigma):
            return x * 0.5

    found = look_at(Straight(), flow, None, "full")
    assert found.reference is not None and [back.steps for back in found.returned] == [20, 50]
    report = report_of(flow, found, 0.5, [])
    assert "inverted and resumed, but not steered" in report.verdict
    line = next(line for line in report.lines if line.name == "layers")
    assert line.state != BAD and "can be cut" in line.value
    assert float(steps_for(flow, 4)[0]) == 1.0 and len(steps_for(flow, 4)) == 5


def test_the_command_writes_report_and_card(tmp_path, capsys):
    main(["face_model", "--depth", "quick", "--image", "assets/portrait.png", "--card", str(tmp_path / "card.png")])
    text = capsys.readouterr().out
    assert text.startswith("**Works. Next: Invert Image at 64x64") and "160x8x8" in text and "typical" in text
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG") and str(tmp_path) not in text


def test_what_a_command_cannot_do_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--image"):
        main(["face_diffae", "--depth", "quick"])
    for wrong in (["face_model", "--card", "a.png"], ["face_model", "--json", "--depth", "quick"]):
        with pytest.raises(SystemExit) as end:
            main(wrong)
        assert end.value.code == 2
    with pytest.raises(ValueError, match="semantic code"):
        from core.api import load

        check_model(load("face_hdae"))
