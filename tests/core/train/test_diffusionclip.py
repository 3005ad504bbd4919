"""Fine-tuned networks: pictures move to the prompt, the model stays, differences travel as LoRA files, and predictions
mix."""

import pytest
import torch
from torch.nn import functional as F

from core.edit.weights.diffusionclip import Mixed, Share, exchanged
from core.edit_schedule import EditSchedule
from core.files.diffusionclip import LoraWeights, from_lora, load_weights, save_weights, to_lora
from core.networks.vp import VPDenoiser
from core.networks.weight_difference import WeightDelta, difference, thinned
from core.sample import sample_ddim
from core.schedule import Schedule
from core.train.diffusionclip import DiffusionClipSettings, train_diffusionclip
from core.train.directional import PromptPair
from core.train.memory import graph_bytes, needed

from ..tiny import Cancelled, Colours, redness, resumed, stopped


def tune(model, path, session=None, target="red", **settings) -> WeightDelta:
    prompts = PromptPair(Colours(), "grey", target)
    return train_diffusionclip(model, path, prompts, DiffusionClipSettings(**settings), session=session)


@pytest.fixture(scope="module")
def delta(model, path):
    return tune(model, path, steps=3, epochs=3, batch=4, lr=5e-4, l1_weight=0.3)


def mixed(model, delta, strength=1.0, **window) -> Mixed:
    return Mixed(model, model.net, [Share(delta, EditSchedule(strength, **window))])


@pytest.mark.parametrize("efficient", [True, False])
def test_fine_tuning_moves_pictures_and_leaves_the_model(model, path, delta, efficient):
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    options = {"steps": 3, "epochs": 3, "batch": 4, "lr": 5e-4, "l1_weight": 0.3, "efficient": efficient}
    found = tune(model, path, **options)
    whole = {s: sample_ddim(mixed(model, found, s), path.noisiest, path.sigmas) for s in (0.5, 1.0)}
    assert redness(path.reconstruction) + 0.02 < redness(whole[0.5]) < redness(whole[1.0])
    assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
    again = tune(model, path, **options)
    assert all(torch.equal(v, again.full[k]) for k, v in found.full.items())


def test_a_run_cut_in_the_middle_of_a_chain_goes_on_to_the_same_weights(model, path, tmp_path):
    options = {"steps": 3, "epochs": 2, "batch": 4, "lr": 5e-4}
    whole, file = tune(model, path, **options), tmp_path / "run.safetensors"
    session, runs = stopped(4, file)
    with pytest.raises(Cancelled):
        tune(model, path, session, **options)
    assert runs[0].carry
    again = tune(model, path, resumed(file), **options)
    assert all(torch.allclose(v, again.full[k], rtol=1e-5, atol=1e-8) for k, v in whole.full.items())


def test_a_thin_difference_keeps_most_of_it(model, path, delta):
    thin, kept = thinned(delta, 4)
    exact, everything = thinned(delta, 64)
    assert 0.3 < kept < 1 and everything == pytest.approx(1, abs=1e-6)
    assert sum(v.numel() for v in thin.full.values()) + sum(
        u.numel() + d.numel() for u, d in thin.thin.values()
    ) < 0.6 * sum(v.numel() for v in delta.full.values())
    for name, value in delta.full.items():
        torch.testing.assert_close(exact.of(name, value), value, rtol=1e-4, atol=1e-7)
    assert redness(sample_ddim(mixed(model, thin), path.noisiest, path.sigmas)) > redness(path.reconstruction) + 0.02
    with pytest.raises(ValueError, match="rank must be at least 1"):
        thinned(delta, 0)


def test_weights_are_exchanged_for_the_call_only(model, delta):
    state = {k: v.clone() for k, v in model.net.state_dict().items()}
    own = dict(model.net.named_parameters())
    with pytest.raises(KeyError), exchanged(model.net, delta):
        for name, value in model.net.named_parameters():
            torch.testing.assert_close(value, state[name] + delta.of(name, value))
        raise KeyError
    assert all(p is own[k] and torch.equal(p, state[k]) for k, p in model.net.named_parameters())


def test_mixed_predictions(model, path, delta):
    x, sigma = path.states[2], path.states.new_full((4,), float(path.sigmas[2]))
    plain = model(x, sigma)
    with exchanged(model.net, delta):
        tuned = model(x, sigma)
    assert not torch.allclose(tuned, plain, atol=1e-3)
    assert torch.equal(mixed(model, delta, 1.0)(x, sigma), tuned) and torch.equal(
        mixed(model, delta, 0.0)(x, sigma), plain
    )
    torch.testing.assert_close(mixed(model, delta, 0.3)(x, sigma), 0.7 * plain + 0.3 * tuned)
    level = float(path.sigmas[2])
    assert torch.equal(mixed(model, delta, sigma_end=level * 1.1)(x, sigma), plain)
    assert torch.equal(mixed(model, delta, sigma_start=level)(x, sigma), tuned)
    two = Mixed(model, model.net, [Share(delta, EditSchedule(0.3)), Share(delta, EditSchedule(0.2, sigma_end=level))])
    torch.testing.assert_close(two(x, sigma), 0.5 * plain + 0.5 * tuned)
    part = two.split(x, sigma)
    torch.testing.assert_close(part.decode(part.h), two(x, sigma), rtol=1e-4, atol=1e-5)
    moved = part.decode(part.h + 0.1)
    assert not torch.allclose(moved, two(x, sigma), atol=1e-3)
    off = mixed(model, delta, 0.0).split(x, sigma)
    assert torch.equal(off.decode(off.h), plain)


def test_lora_names_and_files(model, delta, tmp_path):
    thin, _ = thinned(delta, 3)
    for one in (delta, thin):
        lora = to_lora(one)
        assert all(k.startswith("diffusion_model.net.") for k in lora)
        back = from_lora(lora)
        file = load_weights(save_weights(tmp_path / "w.safetensors", one))
        for name in model.net.state_dict():
            like = model.net.state_dict()[name]
            if one.of(name, like) is not None:
                assert torch.equal(back.of(name, like), one.of(name, like))
                torch.testing.assert_close(file.of(name, like), one.of(name, like), rtol=5e-3, atol=1e-5)
        assert file.fingerprint == back.fingerprint == one.fingerprint and file.label == "grey > red"
    # Without our facts, as stock nodes hand it on, only names and shapes can be checked.
    assert from_lora(dict(to_lora(thin))).fingerprint == ""
    # The product that a stock loader forms is the flattened weight.
    stem = next(iter(thin.thin))
    up, down = thin.thin[stem]
    torch.testing.assert_close(
        (up @ down).reshape(model.net.state_dict()[stem].shape), thin.of(stem, model.net.state_dict()[stem])
    )


def test_wrong_weights_are_refused(model, delta, tmp_path):
    with pytest.raises(ValueError, match="connect that model"):
        mixed(VPDenoiser(model.net, Schedule(), fingerprint="f" * 12), delta)
    odd = WeightDelta({"nowhere.weight": torch.ones(2)}, {}, "")
    with pytest.raises(ValueError, match="another network: nowhere"):
        mixed(model, odd)
    narrow = WeightDelta({}, {"conv_in.weight": (torch.ones(32, 2), torch.ones(2, 5))}, "")
    with pytest.raises(ValueError, match="another network: conv_in"):
        mixed(model, narrow)
    with pytest.raises(ValueError, match="differ in name or shape"):
        difference({"a": torch.ones(2)}, {"a": torch.ones(3)}, "")
    for bad, word in (
        ({}, "expected LORA_MODEL"),
        ({"a": 1}, "expected LORA_MODEL"),
        ({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, "not of a pixel model"),
        ({"diffusion_model.net.a.lora_up.weight": torch.ones(2, 2)}, "other half"),
    ):
        with pytest.raises(ValueError, match=word):
            from_lora(bad)
    file = save_weights(tmp_path / "w.safetensors", delta)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match="not a usable"):
        load_weights(file)
    with pytest.raises(ValueError, match="NaN"):
        save_weights(tmp_path / "n.safetensors", WeightDelta({"a.weight": torch.tensor([float("nan")])}, {}, ""))
    assert isinstance(to_lora(delta), LoraWeights)


def test_fine_tuning_refuses(model, path):
    for options, word in (
        ({"steps": 0}, "steps must lie"),
        ({"steps": 99}, "steps must lie"),
        ({"epochs": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=word):
            tune(model, path, **options)
    with pytest.raises(ValueError, match="mean the same"):
        tune(model, path, target="grey")


def test_the_memory_estimate_is_what_autograd_keeps():
    layer = torch.nn.Linear(64, 64)
    x = torch.randn(128, 64)
    one = graph_bytes(lambda: F.silu(layer(x)).square().sum(), [layer])
    assert (
        one == 2 * x.numel() * 4 + x.numel() * 4
    )  # x for the weight, the layer's output for silu, silu's for the square
    weights = sum(p.numel() for p in layer.parameters()) * 4
    assert needed(lambda: F.silu(layer(x)).square().sum(), 3, layer) == 3 * one + 6 * weights


@pytest.mark.parametrize("kept", [".lora_up.weight", ".lora_down.weight", "flat"])
def test_halves_of_a_thin_difference_are_refused(model, delta, kept):
    made = to_lora(thinned(delta, 4)[0])
    name = next(k for k in made if k.endswith(".lora_up.weight")).removesuffix(".lora_up.weight")
    if kept == "flat":
        made[name + ".lora_up.weight"] = torch.zeros(3)
    else:
        made = LoraWeights({name + kept: made[name + kept]}, made.facts)
    with pytest.raises(ValueError, match="without its other half"):
        from_lora(made)
