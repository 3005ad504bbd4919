"""DeltaEdit and PADA on codes: identity at 0, ground truths that they must find, exact divergences, files, and resumed
runs."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from core.codes import CodeSpace
from core.edit.codes.deltaedit import delta_edit, relevant
from core.edit.codes.pada import pada_edit, varied_noise
from core.files import kinds
from core.files.code_edits import (
    TrainedCodeEdit,
    code_edit_from_payload,
    code_edit_to_payload,
    load_code_edit,
    save_code_edit,
)
from core.networks.deltaedit import DeltaMapper, groups_of
from core.networks.pada import PADA, drawn, kl_to
from core.train.code_readings import CodeEditSettings, EncodedPictures, read, ridge
from core.train.deltaedit import train_delta_mapper
from core.train.pada import AgeLabels, PadaSettings, PadaWeights, train_pada

from ...tiny import Cancelled, resumed, stopped
from .code_world import EMBEDDING, PRINT, SEE, Words, ages_of, world


@pytest.fixture(scope="module")
def mapper():
    codes, space, embedding = world()
    settings = CodeEditSettings(steps=600, batch=64, lr=3e-3, width=48)
    return train_delta_mapper(EncodedPictures(codes, space, embedding), "test", settings)


def aged(steps=300, seed=0, weights=None, **options):
    codes, space, embedding = world()
    return train_pada(
        EncodedPictures(codes, space, embedding),
        Words(),
        ages_of(codes, space),
        [("young", 0.0), ("old", 1.0)],
        PadaSettings(steps, batch=64, lr=3e-3, width=48, seed=seed, weights=weights or PadaWeights()),
        **options,
    )


@pytest.fixture(scope="module")
def pada():
    return aged()


def test_the_mapper_recovers_changes_that_it_is_told_of(mapper):
    codes, space, embedding = world(200, seed=5)
    normal = space.normalise(codes)
    first, second = torch.arange(100), torch.arange(100, 200)
    told = F.normalize(embedding[second] - embedding[first], dim=1)
    made = mapper.net(normal[first], embedding[first], told)
    aim = normal[second] - normal[first]
    seen = F.cosine_similarity(made[:, :EMBEDDING], aim[:, :EMBEDDING], dim=1).mean()
    assert seen > 0.9, "what the embedder sees is found"
    blind = F.cosine_similarity(made, mapper.net(normal[first], embedding[first], told.roll(1, 0)), dim=1).mean()
    assert blind < 0.7, "another change is another edit"


def test_an_edit_moves_the_embedding_as_the_text_says(mapper):
    codes, space, embedding = world(64, seed=6)
    direction = F.normalize(torch.tensor([0.0, 1, 0, 0, 0, 0]), dim=0)

    def looked(code):
        return F.normalize(space.normalise(code)[:, :EMBEDDING] @ SEE + torch.eye(EMBEDDING)[0], dim=1)

    moved = looked(delta_edit(mapper, codes, space, direction, embedding, strength=0.5)) - embedding
    assert F.cosine_similarity(moved, direction[None]).mean() > 0.6
    # Without the pictures, their embeddings are read off the codes.
    alone = looked(delta_edit(mapper, codes, space, direction, strength=0.5)) - embedding
    assert F.cosine_similarity(alone, direction[None]).mean() > 0.6


def test_strength_0_is_the_code_bit_for_bit(mapper, pada):
    codes, space, embedding = world(3, seed=7)
    assert torch.equal(delta_edit(mapper, codes, space, embedding[0], embedding, strength=0, quantile=0.5), codes)
    assert torch.equal(
        pada_edit(pada, codes, space, embedding[0], strength=0, variants=2), codes.repeat_interleave(2, 0)
    )


def test_length_of_an_edit_is_the_median_of_training_times_strength(mapper):
    codes, space, embedding = world(20, seed=8)
    g = torch.Generator().manual_seed(0)
    trained, _, _ = world()
    normal = space.normalise(trained)
    pairs = (normal[torch.randint(400, (5000,), generator=g)] - normal[torch.randint(400, (5000,), generator=g)]).norm(
        dim=1
    )
    for strength in (0.3, 2.0):
        change = space.normalise(
            delta_edit(mapper, codes, space, embedding[0], embedding, strength=strength)
        ) - space.normalise(codes)
        assert torch.allclose(change.norm(dim=1), strength * pairs[pairs > 0].median() * torch.ones(20), rtol=0.05)


@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.9, 1.0])
def test_the_mask_keeps_the_stated_share_and_the_rest_is_untouched(mapper, quantile):
    mask = relevant(mapper.net.relevance, torch.randn(EMBEDDING, generator=torch.Generator().manual_seed(1)), quantile)
    assert int(mask.sum()) == max(1, round((1 - quantile) * 12)) and set(mask.tolist()) <= {0.0, 1.0}
    codes, space, embedding = world(4, seed=9)
    edited = delta_edit(mapper, codes, space, embedding[0], embedding, quantile=quantile)
    kept = relevant(mapper.net.relevance, embedding[0], quantile) == 0
    assert torch.equal(edited[:, kept], codes[:, kept])


def test_relevance_finds_the_coordinates_that_the_embedder_sees(mapper):
    direction = F.normalize(SEE[2], dim=0)  # what coordinate 2 does
    mask = relevant(mapper.net.relevance, direction, 10 / 12)
    assert mask[2] == 1


def test_levels_are_grouped_deep_middle_shallow():
    assert groups_of(1) == [[0]] and groups_of(3) == [[2], [1], [0]] and groups_of(5) == [[4, 3], [2, 1], [0]]
    net = DeltaMapper((5, 4), 3, 8)
    assert len(net.parts) == 3 and net(torch.randn(2, 20), torch.randn(2, 3), torch.randn(2, 3)).shape == (2, 20)
    # A level is changed by its own mappers alone.
    with torch.no_grad():
        for p in net.parts[0].parameters():
            p.zero_()
    made = net(torch.randn(2, 20), torch.randn(2, 3), torch.randn(2, 3)).unflatten(1, (5, 4))
    assert (made[:, 3:] == 0).all() and (made[:, :3] != 0).any()


def test_a_mapper_of_levels_trains_too():
    codes, space, embedding = world(100, shape=(3, 4))
    settings = CodeEditSettings(steps=100, width=16, lr=3e-3)
    found = train_delta_mapper(EncodedPictures(codes, space, embedding), "test", settings)
    assert delta_edit(found, codes[:2], space, embedding[0]).shape == (2, 3, 4)


def test_divergence_is_that_of_the_distributions():
    g = torch.Generator().manual_seed(0)
    mean, log_variance, aim = (torch.randn(4, 7, generator=g) for _ in range(3))
    p = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(p, torch.distributions.Normal(aim, torch.ones(4, 7))).mean(1)
    assert torch.allclose(kl_to(mean, log_variance, aim), expected, atol=1e-5)
    assert torch.equal(drawn(mean, log_variance, aim, 0.0), mean)


def test_pada_before_training_changes_nothing_and_learns_its_age(pada):
    codes, space, _ = world(200, seed=11)
    normal = space.normalise(codes)
    assert torch.equal(PADA((12,), EMBEDDING, 16)(normal, torch.randn(200, EMBEDDING)), normal)
    others = ages_of(codes, space).others
    young, old = (
        ages_of(pada_edit(pada, codes, space, text, tau=0.0), space) for text in Words().embed_text(["young", "old"])
    )
    assert young.ages.mean() < 0.2 and old.ages.mean() > 0.8
    assert (old.others - others).abs().mean() < 0.2


def test_variants_are_equal_at_tau_0_and_follow_the_seed(pada):
    codes, space, embedding = world(2, seed=12)

    def edit(**o):
        return pada_edit(pada, codes, space, embedding[0], variants=3, **o)

    plain = edit(tau=0.0)
    assert (
        plain.shape == (6, 12)
        and torch.equal(plain[0], plain[1])
        and torch.equal(plain[3], plain[5])
        and not torch.equal(plain[0], plain[3])
    )
    assert torch.equal(edit(seed=4), edit(seed=4)) and not torch.equal(edit(seed=4), edit(seed=5))
    near, far = (float((edit(tau=t)[0] - edit(tau=t)[1]).norm()) for t in (0.5, 2.0))
    assert 0 < near < far


def test_diversity_is_what_its_term_buys():
    without, wanted = (aged(weights=PadaWeights(diversity=d, seek=1.0)) for d in (0.0, 5.0))
    codes, space, embedding = world(4, seed=13)

    def apart(trained):
        made = pada_edit(trained, codes, space, embedding[0], variants=8).unflatten(0, (4, 8))
        return float(made.std(1).mean())

    assert apart(wanted) > 1.5 * apart(without)


def test_noise_of_another_amount():
    g = torch.Generator().manual_seed(0)
    noise = 7 * torch.randn(2, 3, 32, 32, generator=g)
    assert torch.equal(varied_noise(noise, 0.0, 3), noise.repeat_interleave(3, 0))
    made = varied_noise(noise, 0.6, 3, seed=1)
    assert made.shape[0] == 6 and abs(float(made.std()) - 7) < 0.3
    assert abs(float(F.cosine_similarity(made[0].flatten(), noise[0].flatten(), dim=0)) - 0.8) < 0.03
    assert float(F.cosine_similarity(varied_noise(noise, 1.0)[0].flatten(), noise[0].flatten(), dim=0)) < 0.1
    for bad in (-0.1, 1.5):
        with pytest.raises(ValueError, match="amount"):
            varied_noise(noise, bad)


@pytest.mark.parametrize("kind", ["mapper", "pada"])
def test_resumed_is_uninterrupted(kind, tmp_path):
    codes, space, embedding = world(50)

    def train(session=None):
        if kind == "mapper":
            pictures = EncodedPictures(codes, space, embedding)
            settings = CodeEditSettings(steps=9, batch=8, width=8, seed=3)
            return train_delta_mapper(pictures, "test", settings, session=session)
        return aged(9, seed=3, session=session)

    whole = train()
    session, runs = stopped(4, tmp_path / "state.safetensors")
    with pytest.raises(Cancelled):
        train(session)
    again = train(resumed(tmp_path / "state.safetensors", {}))
    assert runs and all(
        torch.equal(a, b) for a, b in zip(whole.net.state_dict().values(), again.net.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("half", [True, False])
def test_files_round_trip(tmp_path, mapper, pada, half):
    for kind, trained in ((kinds.DELTAEDIT, mapper), (kinds.PADA, pada)):
        found = load_code_edit(save_code_edit(tmp_path / f"{kind.format}.safetensors", trained, half), kind)
        assert (found.space.fingerprint, found.embedder, found.label) == (PRINT, "test", "")
        assert torch.equal(found.space.mean, trained.space.mean) and torch.equal(found.space.std, trained.space.std)
        for name, value in trained.net.state_dict().items():
            assert (
                torch.allclose(found.net.state_dict()[name], value, atol=4e-3)
                if half
                else torch.equal(found.net.state_dict()[name], value)
            )
    with pytest.raises(ValueError, match=r"hspace\.pada"):
        load_code_edit(tmp_path / f"{kinds.DELTAEDIT.format}.safetensors", kinds.PADA)


MODEST = settings(
    max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@MODEST
@given(
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 4000),
)
def test_hostile_files_are_refused(tmp_path, mapper, edits, cut):
    data = bytearray(save_code_edit(tmp_path / "a.safetensors", mapper).read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    for place, value in edits:
        data[place % header] = value
    (tmp_path / "b.safetensors").write_bytes(bytes(data[: len(data) - cut]))
    try:
        found = load_code_edit(tmp_path / "b.safetensors", kinds.DELTAEDIT)
    except ValueError:
        return
    assert isinstance(found.net, DeltaMapper) and torch.isfinite(found.net.length)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [1 << 40]}, "out of range"),
        ({"width": 65536}, "not a usable"),
        ({"fingerprint": "../x"}, "out of range"),
        ({"label": "a\nb"}, "out of range"),
        ({"extra": 3}, "out of range"),
        ({"version": 2}, "version 1"),
        ({"tensors": {}}, "not a usable"),
        ({"shape": [13]}, "not a usable"),
        ({"format": "hspace.delta"}, "connect Train Delta Mapper"),
    ],
)
def test_payloads_that_cannot_be(mapper, change, words):
    payload = code_edit_to_payload(mapper)
    json.dumps({k: v for k, v in payload.items() if k != "tensors"})
    assert isinstance(code_edit_from_payload(payload, kinds.DELTAEDIT), TrainedCodeEdit)
    with pytest.raises(ValueError, match=words):
        code_edit_from_payload({**payload, **change}, kinds.DELTAEDIT)


def test_what_does_not_belong_together_is_refused(mapper, pada):
    codes, space, embedding = world(20)
    other = replace(space, fingerprint="ffffffffffff")
    for edit, trained in ((delta_edit, mapper), (pada_edit, pada)):
        with pytest.raises(ValueError, match="of model ffffffffffff"):
            edit(trained, codes, other, embedding[0])
        with pytest.raises(ValueError, match="6 entries, got 5"):
            edit(trained, codes, space, embedding[0, :5])
        with pytest.raises(ValueError, match="strength"):
            edit(trained, codes, space, embedding[0], strength=9.0)
    with pytest.raises(ValueError, match="quantile"):
        delta_edit(mapper, codes, space, embedding[0], quantile=1.5)
    with pytest.raises(ValueError, match="20 codes need one 'image', or as many, got 3"):
        delta_edit(mapper, codes, space, embedding[0], embedding[:3])
    with pytest.raises(ValueError, match="20 codes need one 'reference' picture, or as many, got 3"):
        pada_edit(pada, codes, space, embedding[:3])
    with pytest.raises(ValueError, match="embedder"):
        mapper.check_embedder("clip")
    with pytest.raises(ValueError, match="at least 8"):
        train_delta_mapper(EncodedPictures(codes[:4], space, embedding[:4]), "test")
    with pytest.raises(ValueError, match="same pictures"):
        train_delta_mapper(EncodedPictures(codes, space, embedding[:4]), "test")
    with pytest.raises(ValueError, match="ages must differ"):
        labels = AgeLabels(torch.zeros(20), torch.zeros(20, 1))
        train_pada(EncodedPictures(codes, space, embedding), Words(), labels, [("young", 0), ("old", 1)])
    with pytest.raises(ValueError, match="a text of young"):
        train_pada(EncodedPictures(codes, space, embedding), Words(), ages_of(codes, space), [("young", 0)])


def test_statistics_are_taken_from_the_training_codes_if_there_are_none():
    codes, space, embedding = world(60)
    pictures = EncodedPictures(codes, CodeSpace(space.shape, PRINT), embedding)
    found = train_delta_mapper(pictures, "test", CodeEditSettings(steps=3, width=8))
    normal = found.space.normalise(codes)
    assert normal.mean().abs() < 1e-5 and abs(float(normal.std(0).mean()) - 1) < 1e-5


def test_ridge_reads_what_is_linear():
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(500, 5, generator=g), torch.randn(5, 2, generator=g)
    assert torch.allclose(read(x, ridge(x, x @ w + 3, 1e-8)), x @ w + 3, atol=1e-4)
    shrunk = ridge(x, x @ w, 1.0)
    assert shrunk[:-1].norm() < 0.7 * w.norm()
