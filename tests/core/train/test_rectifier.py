"""The rectifier: nothing before training, a kernel of its own for every sample, better pictures after, and an edit on
top."""

import pytest
import torch
from torch.nn import functional as F

from core.directions import Directions
from core.edit.directions.steer import Edit, steer_trajectory
from core.edit.weights.rectifier import Rectified, RectifierOptions, blended
from core.edit_schedule import EditSchedule
from core.files.rectifier import (
    TrainedRectifier,
    load_rectifier,
    rectifier_from_payload,
    rectifier_to_payload,
    save_rectifier,
)
from core.networks.guided import GuidedConfig, GuidedUNet
from core.networks.rectifier import RectifierNet, rectified, targets
from core.sample import sample_ddim
from core.schedule import Schedule, grid_sigmas
from core.train.directional import PromptPair
from core.train.rectifier import FrozenNetwork, RectifierSettings, train_rectifier
from core.train.rectifier_edit import RectifierEditSettings, train_rectifier_edit

from ..tiny import Cancelled, Colours, inverted, redness, resumed, stopped


@pytest.fixture(scope="module")
def path(model, device):
    return inverted(model, device, 4, grid_sigmas(Schedule(), 8, t0=500))


def fresh(model, seed=0, noise=0.0) -> RectifierNet:
    torch.manual_seed(seed)
    made = RectifierNet.of(model.net, model.schedule.sigmas, width=8, code=8, seed=seed).requires_grad_(False)
    if noise:
        for branch in made.b.values():
            torch.nn.init.normal_(branch.bias, std=noise)
    return made


def rebuilt(model, path, rectifier, session=None, **settings) -> RectifierNet:
    frozen = FrozenNetwork(model, model.net)
    return train_rectifier(frozen, path, rectifier, RectifierSettings(**settings), session=session)


def test_targets_are_the_kernels_of_middle_and_decoder(model):
    names = set(targets(model.net))
    assert {"mid.block_1.conv1", "mid.block_2.conv2", "up.0.block.0.conv1", "up.1.block.1.conv2"} <= names
    assert not any(n.startswith(("down", "conv_")) or "sample" in n or "shortcut" in n for n in names)
    guided = GuidedUNet(GuidedConfig(3, 6, 32, 32, (32, 64), 1, (False, True), True, True, True, 16))
    names = set(targets(guided))
    assert {"middle_block.0.in_layers.2", "output_blocks.0.0.out_layers.3"} <= names and not any(
        n.startswith("input") for n in names
    )
    with pytest.raises(ValueError, match="needs a U-Net"):
        targets(torch.nn.Conv2d(3, 3, 3))


def test_untrained_it_is_the_model(model, path):
    off = Rectified(model, model.net, fresh(model), path.x0)
    x, sigma = path.states[2], path.states.new_full((4,), float(path.sigmas[2]))
    assert torch.equal(off(x, sigma), model(x, sigma))
    strong = Rectified(model, model.net, fresh(model, noise=1.0), path.x0, options=RectifierOptions(amount=0.0))
    assert torch.equal(strong(x, sigma), model(x, sigma))
    assert not torch.allclose(
        Rectified(model, model.net, fresh(model, noise=1.0), path.x0)(x, sigma), model(x, sigma), atol=1e-3
    )


def test_every_sample_has_its_own_kernel_and_nothing_stays(model, path):
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    made = Rectified(model, model.net, fresh(model, noise=0.5), path.x0)
    x, sigma = path.states[1], path.states.new_full((4,), float(path.sigmas[1]))
    together = made(x, sigma)
    for i in range(4):
        one = Rectified(model, model.net, made.rectifier, path.x0[i : i + 1])(x[i : i + 1], sigma[:1])
        torch.testing.assert_close(one, together[i : i + 1], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
    conv = model.net.mid.block_1.conv1
    a, b = made.kernels(x, sigma)["mid.block_1.conv1"]
    weight = conv.weight * (1 + torch.einsum("po,pi->oip", b[0, 0], a[0, 0]).reshape(conv.weight.shape))
    h = torch.randn(4, conv.in_channels, 8, 8, device=x.device)
    with pytest.raises(KeyError), rectified(model.net, made.kernels(x, sigma)):
        torch.testing.assert_close(conv(h)[:1], F.conv2d(h[:1], weight, conv.bias, padding=1), rtol=1e-4, atol=1e-5)
        raise KeyError
    assert "forward" not in vars(conv)
    with (
        pytest.raises(ValueError, match="another network"),
        rectified(model.net, {"mid.block_1.conv1": (a[..., :3], b)}),
    ):
        pass
    assert not any("forward" in vars(m) for m in model.net.modules())


def test_two_rectifiers_blend(model, path):
    x, sigma = path.states[1], path.states.new_full((4,), float(path.sigmas[1]))
    rebuild, edit = fresh(model, noise=0.5), fresh(model, 1, noise=0.5)
    for strength, only in ((0.0, rebuild), (1.0, edit)):
        both = Rectified(model, model.net, rebuild, path.x0, edit, RectifierOptions(strength))(x, sigma)
        torch.testing.assert_close(both, Rectified(model, model.net, only, path.x0)(x, sigma), rtol=1e-4, atol=1e-5)
    ka, kb = (r(path.x0, model(x, sigma), sigma) for r in (rebuild, edit))
    a, b = blended(ka, kb, 0.3, 0.5)["mid.block_2.conv1"]
    mixed = torch.einsum("srpo,srpi->soip", b, a)
    each = [torch.einsum("srpo,srpi->soip", k["mid.block_2.conv1"][1], k["mid.block_2.conv1"][0]) for k in (ka, kb)]
    torch.testing.assert_close(mixed, 0.5 * (0.7 * each[0] + 0.3 * each[1]), rtol=1e-4, atol=1e-6)


def test_it_learns_to_rebuild_and_then_to_edit(model, path):
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    rebuild = rebuilt(model, path, fresh(model), steps=30, batch=4, lr=6e-3)
    plain = (path.reconstruction - path.x0).abs().mean()
    better = sample_ddim(Rectified(model, model.net, rebuild, path.x0), path.noisiest, path.sigmas)
    assert float((better - path.x0).abs().mean()) < 0.9 * float(plain)
    options = {"sigma_start": 100.0, "steps": 12, "lr": 1e-2, "clip_weight": 1.0, "l1_weight": 0.3}
    for markov in (False, True):
        settings = RectifierEditSettings(markov=markov, grid=4, **options)
        prompts = PromptPair(Colours(), "grey", "red")
        edit = train_rectifier_edit(FrozenNetwork(model, model.net), path, rebuild, prompts, settings)
        both = [Rectified(model, model.net, rebuild, path.x0, edit, RectifierOptions(s)) for s in (0.0, 0.5, 1.0)]
        moved = [redness(sample_ddim(m, path.noisiest, path.sigmas)) for m in both]
        assert moved[0] < moved[1] < moved[2] and moved[2] > moved[0] + 0.01
    assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
    again = rebuilt(model, path, fresh(model), steps=3, batch=4, lr=3e-3)
    same = rebuilt(model, path, fresh(model), steps=3, batch=4, lr=3e-3)
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in again.state_dict().items())


RUN = {"steps": 14, "batch": 2, "lr": 1e-2, "seed": 3}


@pytest.fixture(scope="module")
def whole(model, path):
    """What a run gives that nobody cuts."""
    return rebuilt(model, path, fresh(model), **RUN)


@pytest.mark.parametrize("at", [3, 4, 10])
def test_a_run_that_was_cut_goes_on_to_the_same_weights(model, path, whole, tmp_path, at):
    """In the middle of the rectified model's own runs, and at a stored state's turn."""
    file = tmp_path / "run.safetensors"
    session, _ = stopped(at, file)
    with pytest.raises(Cancelled):
        rebuilt(model, path, fresh(model), session, **RUN)
    again = rebuilt(model, path, fresh(model, 9), resumed(file), **RUN)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_it_combines_with_steering(model, path):
    x = path.noisiest[:1]
    shape = model.split(x, x.new_ones(1)).h.shape[1:]
    v = torch.randn(1, 1, *shape)
    none = torch.zeros(1, 1)
    found = Directions(v / v.norm(), torch.ones(1, dtype=torch.float64), none, none, "middle", model.fingerprint)
    made = Rectified(model, model.net, fresh(model, noise=0.3), path.x0)
    off = steer_trajectory(made, path, [Edit(found, EditSchedule(0.0))])
    assert torch.equal(off, sample_ddim(made, path.noisiest, path.sigmas))
    on = steer_trajectory(made, path, [Edit(found, EditSchedule(8.0))])
    assert float((on - off).abs().mean()) > 1e-3


def test_a_batch_of_several_turns_uses_the_kernels_in_turn(model, path):
    made = Rectified(model, model.net, fresh(model, noise=0.5), path.x0[:2])
    x, sigma = path.states[1][:2], path.states.new_full((2,), float(path.sigmas[1]))
    kernels = made.kernels(x, sigma)
    with rectified(model.net, kernels):
        twice = model(torch.cat([x, x.flip(3)]), torch.cat([sigma, sigma]))
        once = [model(x, sigma), model(x.flip(3), sigma)]
    torch.testing.assert_close(twice, torch.cat(once), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="made for 2 samples, got 3"), rectified(model.net, kernels):
        model(torch.cat([x, x[:1]]), torch.cat([sigma, sigma[:1]]))
    with pytest.raises(ValueError, match="sample the pictures of the trajectory"):
        Rectified(model, model.net, made.rectifier, path.x0[:3])(x, sigma)
    with pytest.raises(ValueError, match="sample the pictures of the trajectory"):
        Rectified(model, model.net, made.rectifier, path.x0[:2, :, :8])(x, sigma)


def test_another_forward_stays_where_it_was(model, path):
    conv = model.net.mid.block_1.conv1
    x, sigma = path.states[1], path.states.new_full((4,), float(path.sigmas[1]))
    kernels = Rectified(model, model.net, fresh(model, noise=0.5), path.x0).kernels(x, sigma)
    plain = conv.forward
    mark = lambda v: plain(v) + 1  # noqa: E731
    conv.forward = mark
    try:
        with rectified(model.net, kernels):
            inside = conv(torch.zeros(4, conv.in_channels, 4, 4, device=x.device))
        assert conv.forward is mark
        torch.testing.assert_close(inside, mark(torch.zeros(4, conv.in_channels, 4, 4, device=x.device)))
    finally:
        del conv.forward


def test_files(model, path, tmp_path):
    huge = {**rectifier_to_payload(TrainedRectifier(fresh(model), model.fingerprint, False, 1.0, "")), "width": 4096}
    with pytest.raises(ValueError, match="not a usable rectifier"):  # 20 GB, from a small file
        rectifier_from_payload(huge)
    made = TrainedRectifier(fresh(model, noise=0.3), model.fingerprint, True, 3.0, "grey > red", {"steps": 3})
    back = load_rectifier(save_rectifier(tmp_path / "r.safetensors", made, half=False))
    x, sigma = path.states[1], path.states.new_full((4,), float(path.sigmas[1]))
    a, b = (Rectified(model, model.net, m.rectifier, path.x0)(x, sigma) for m in (made, back))
    assert (
        torch.equal(a, b)
        and back.edit
        and back.sigma_start == 3
        and back.label == made.label
        and back.extra == made.extra
    )
    half = load_rectifier(save_rectifier(tmp_path / "h.safetensors", made))
    torch.testing.assert_close(Rectified(model, model.net, half.rectifier, path.x0)(x, sigma), a, rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match="connect that model"):
        back.check_model("f" * 12)
    good = rectifier_to_payload(made)
    wrong = [
        ("sigma_start", float("nan")),
        ("edit", 1),
        ("code", 9),
        ("code", 10**9),
        ("shapes", {}),
        ("shapes", {"a": [10_000, 10_000]}),
        ("fingerprint", "no"),
        ("label", "x\n"),
        ("version", 2),
        ("tensors", {}),
    ]
    for key, value in wrong:
        with pytest.raises(ValueError, match=r"not a usable rectifier|expected a rectifier"):
            rectifier_from_payload({**good, key: value})
    data = (tmp_path / "r.safetensors").read_bytes()
    for cut in (0, 7, 100, len(data) - 4):
        (tmp_path / "cut.safetensors").write_bytes(data[:cut])
        with pytest.raises(ValueError, match="not a usable"):
            load_rectifier(tmp_path / "cut.safetensors")
