"""Training: the loop keeps its promises, Asyrp's shift moves pictures to the prompt, released files load, and nothing else changes."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.edit.delta import DeltaEdit, TrainedDelta
from core.edit.delta_io import delta_from_payload, delta_to_payload, load_delta, load_released, save_delta
from core.edit.schedule import EditSchedule
from core.edit.shift import asymmetric_factor
from core.edit.steer import steer_trajectory
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.delta import Delta, DeltaTable, new_delta
from core.networks.guided import GuidedConfig, GuidedUNet
from core.networks.step import StepEmbedding
from core.networks.vp import VPDenoiser
from core.schedule import Schedule
from core.train.asyrp import global_shift, train_asyrp
from core.train.directional import directional, similarity, text_direction
from core.train.fit import Fit
from core.train.state import load_state

from .tiny import NAMES, Cancelled, Colours, redness, stopped


@pytest.fixture(scope="module")
def model(small):
    return small


@pytest.fixture(scope="module")
def path(small_path):
    return small_path


def delta_of(model, seed=0) -> Delta:
    torch.manual_seed(seed)
    return new_delta(model.net, 64, model.schedule.sigmas)


# --- the loop ---------------------------------------------------------------------------------------------------------------------


def fitted(steps: int, fit: Fit | None = None, **options) -> Fit:
    torch.manual_seed(3)
    module = nn.Linear(3, 1)
    fit = fit or Fit(module, 0.05, 20, **options)
    x = torch.randn(20, 8, 3, generator=torch.Generator().manual_seed(4))
    while fit.i < steps:
        fit.step((fit.module(x[fit.i]) - x[fit.i].sum(1, keepdim=True)).square().mean())
    return fit


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_resumed_run_is_the_run_that_was_not_cut(optimiser):
    whole = fitted(20, optimiser=optimiser)
    state = fitted(7, optimiser=optimiser).state()
    again = Fit(nn.Linear(3, 1), 0.05, 20, optimiser=optimiser)
    again.resume(state)
    fitted(20, again)
    assert torch.equal(whole.module.weight, again.module.weight) and whole.losses == again.losses
    assert sum(whole.losses[-5:]) < 0.8 * sum(whole.losses[:5])
    assert torch.equal(fitted(20, optimiser=optimiser).module.weight, whole.module.weight)


def test_the_best_state_is_kept_and_nan_changes_nothing():
    fit = fitted(10)
    good = {k: v.clone() for k, v in fit.module.state_dict().items()}
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        fit.step(fit.module.weight.sum() * float("nan"))
    assert all(torch.equal(v, good[k]) for k, v in fit.module.state_dict().items())
    worse = Fit(nn.Linear(1, 1), 0.5, 30)
    for i in range(30):
        worse.step(worse.module.weight.square().sum() * (1 if i < 10 else -1))
        if i == 9:
            best = {k: v.clone() for k, v in worse.best.items()}
    assert not torch.equal(best["weight"], worse.module.weight)


@pytest.mark.parametrize(
    ("options", "word"), [({"total": 0}, "at least one step"), ({"lr": math.nan}, "learning rate"), ({"optimiser": "lion"}, "adam, sgd")]
)
def test_settings_that_cannot_train_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        Fit(nn.Linear(1, 1), **{"lr": 0.1, "total": 1, **options})


# --- the loss ---------------------------------------------------------------------------------------------------------------------


def test_the_rate_cools_as_torchs_cosine():
    fit, other = (Fit(nn.Linear(1, 1), 0.2, 7) for _ in range(2))
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(other.optimiser, other.total)
    for _ in range(fit.total):
        fit.cool()
        assert fit.optimiser.param_groups[0]["lr"] == pytest.approx(other.optimiser.param_groups[0]["lr"], rel=1e-9)
        fit.step(fit.module(torch.ones(1, 1)).square().sum())
        other.optimiser.step()
        oracle.step()


def test_directional_loss():
    space = Colours()
    to_red, cosine = text_direction(space, "grey", "red")
    assert float(to_red.norm()) == pytest.approx(1) and 0 < cosine < 1
    start = torch.zeros(1, 3, 8, 8)
    origin = space.embed_image(start)
    red, blue = (torch.tensor(NAMES[c])[None, :, None, None].expand(1, 3, 8, 8) * 0.5 for c in ("red", "blue"))
    losses = [float(directional(space, x, origin, to_red, log=False)) for x in (red, start, blue)]
    assert losses[0] < 0.2 < losses[1] < losses[2]
    logs = [float(directional(space, x, origin, to_red)) for x in (red, start, blue)]
    assert logs == pytest.approx([-math.log((2 - v) / 2) for v in losses], rel=1e-3)
    x = start.clone().requires_grad_(True)
    directional(space, x, origin, to_red).sum().backward()
    assert float(x.grad[:, 0].sum()) < 0 < float(x.grad[:, 2].sum())  # redder, less blue
    assert float(similarity(space, red, start, ("grey", "red"))) > 0.9
    assert float(similarity(space, blue, start, ("grey", "red"))) < 0.5


@pytest.mark.parametrize(
    ("source", "target", "word"), [("", "red", "source prompt is empty"), ("red", " ", "target prompt"), ("red", "red", "mean the same")]
)
def test_prompts_without_a_direction_are_refused(source, target, word):
    with pytest.raises(ValueError, match=word):
        text_direction(Colours(), source, target)


# --- blocks -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["ddpm", "guided"])
def test_the_copied_embedding_is_the_networks_own(family, device):
    torch.manual_seed(0)
    schedule = Schedule()
    if family == "ddpm":
        net = DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True)))
        block = net.mid.block_1.temb_proj
    else:
        net = GuidedUNet(GuidedConfig(3, 6, 32, 32, (32, 64), 1, (False, True), True, True, True, 16))
        block = net.input_blocks[1][0].emb_layers
    net.to(device).eval()
    seen = []
    (block if family == "ddpm" else block[1]).register_forward_hook(lambda _, args, out: seen.append(args[0]))
    sigma = torch.tensor([0.3, 2.0], device=device)
    VPDenoiser(net, schedule)(torch.randn(2, 3, 16, 16, device=device), sigma)
    step = StepEmbedding.of(net, schedule.sigmas).to(device)
    torch.testing.assert_close(F.silu(step(sigma)), seen[0])
    assert not any(p.requires_grad for p in step.parameters())


def test_names_of_the_released_blocks(model):
    assert {k for k in delta_of(model).block.state_dict()} == {
        f"{n}.{p}" for n in ("conv1", "temb_proj", "norm2", "conv2") for p in ("weight", "bias")
    }
    step = StepEmbedding(32, 128, False, Schedule().sigmas)
    guided = {k for k in Delta(64, step, "guided").block.state_dict()}
    assert guided == {
        f"{n}.{p}" for n in ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3") for p in ("weight", "bias")
    }
    size = sum(p.numel() for p in Delta(512, StepEmbedding(128, 512, True, Schedule().sigmas), "ddpm").block.parameters())
    assert size == pytest.approx(0.79e6, rel=0.01)  # the paper's count


def trained(model, **options) -> TrainedDelta:
    return TrainedDelta(delta_of(model), model.fingerprint, 0.5, **{"steps": 4, "label": "grey > red", **options})


def test_strength_zero_is_the_reconstruction_and_more_steps_count_less(model, path):
    off = DeltaEdit(trained(model), EditSchedule(0.0))
    for options in ({}, {"asymmetric": True}, {"eta": 0.5}, {"boost": 0.5}):
        assert torch.equal(steer_trajectory(model, path, [off], **options), path.reconstruction)
    edit = DeltaEdit(trained(model), EditSchedule(1.0, sigma_end=0.5))
    covered = sum(s >= 0.5 for s in path.sigmas.tolist())
    assert edit.on(path.sigmas, True).schedule.strength == pytest.approx(4 / covered)
    assert edit.on(path.sigmas, False).schedule.strength == pytest.approx(4 / covered / asymmetric_factor([edit], path.sigmas))


def test_boost_draws_noise_below_its_level_only(model, path):
    edit = DeltaEdit(trained(model), EditSchedule(1.0, sigma_end=0.5))
    seen: dict[float, list] = {}
    for boost, seed in ((0.0, 0), (0.3, 0), (0.3, 1)):
        states = []
        steer_trajectory(
            model,
            path,
            [edit],
            asymmetric=True,
            boost=boost,
            seed=seed,
            callback=lambda s, states=states: states.append((s["sigma"], s["x"])),
        )
        seen[boost + seed] = states
    levels = [sigma for sigma, _ in seen[0.0]]
    assert any(sigma > 0.3 for sigma in levels) and sum(sigma <= 0.3 for sigma in levels) > 1
    for (sigma, plain), (_, one), (_, other) in zip(*seen.values(), strict=True):
        assert torch.equal(plain, one) == torch.equal(one, other) == (sigma > 0.3)
    assert not torch.equal(seen[0.3][-1][1], seen[1.3][-1][1])


def test_files_of_ours(model, tmp_path, path):
    for made in (
        trained(model),
        TrainedDelta(DeltaTable(torch.randn(3, 64, 8, 8), torch.tensor([2.0, 1.0, 0.5])), model.fingerprint, 0.5, 3),
    ):
        file = save_delta(tmp_path / "d.safetensors", made, half=False)
        again = load_delta(file)
        h, sigma = torch.randn(2, 64, 8, 8), torch.tensor([1.9, 0.6])
        assert torch.equal(again.delta(h, sigma), made.delta.cpu()(h, sigma))
        assert (again.steps, again.sigma_edit, again.label, again.fingerprint) == (
            made.steps,
            made.sigma_edit,
            made.label,
            made.fingerprint,
        )
    data = file.read_bytes()
    for bad in (data[:200], data[:-40], b"", b"\x80\x04" + data[2:]):
        file.write_bytes(bad)
        with pytest.raises(ValueError, match="not a usable"):
            load_delta(file)
    # Shapes that would take 34 GB, in 260 KB.
    payload = delta_to_payload(trained(model))
    payload["tensors"]["block.conv1.weight"] = torch.zeros(65536, 1)
    with pytest.raises(ValueError, match="not a usable trained edit"):
        delta_from_payload(payload)
    broken = trained(model)
    next(broken.delta.parameters()).data[0] = float("nan")
    with pytest.raises(ValueError, match="not saved"):
        save_delta(tmp_path / "nan.safetensors", broken)
    assert not (tmp_path / "nan.safetensors").exists()


def test_released_files(model, tmp_path):
    block = delta_of(model).block.state_dict()
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], 0.5).state_dict()
    file = tmp_path / "smiling_LC_CelebA_HQ_t999_ninv40_ngen40_0.pth"
    where = {"net": model.net, "levels": model.schedule.sigmas, "fingerprint": model.fingerprint, "channels": 64, "sigma_edit": 1.0}
    torch.save({"0": block, "1": block, "optimizer": optimiser, "scheduler": {"step_size": 20, "_last_lr": [0.5]}}, file)
    found = load_released(file, **where)
    assert [f.label for f in found] == ["smiling 0", "smiling 1"] and found[0].steps == 40
    assert all(torch.equal(v, block[k]) for k, v in found[0].delta.block.state_dict().items())
    torch.save({"999": torch.randn(64, 8, 8), "500": torch.randn(1, 64, 8, 8), 0: torch.randn(1, 64, 8, 8)}, file)
    table, single = load_released(file, **where)
    assert len(table.delta.levels) == 2 and table.delta.levels[0] > table.delta.levels[1] and single.label == "smiling, global"
    with pytest.raises(ValueError, match="128"):
        load_released(file, **{**where, "channels": 128})
    torch.save({"0": block}, file)
    with pytest.raises(ValueError, match="fits a network of 64 channels"):
        load_released(file, **{**where, "channels": 128})
    torch.save({"0": Delta(64, StepEmbedding(32, 128, False, Schedule().sigmas), "guided").block.state_dict()}, file)
    with pytest.raises(ValueError, match="guided family"):
        load_released(file, **where)
    torch.save({"0": {"weight": torch.zeros(2)}}, file)
    with pytest.raises(ValueError, match="none of the two known layouts"):
        load_released(file, **where)
    torch.save({"conv_in.weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="no numbered blocks"):
        load_released(file, **where)


# --- training ---------------------------------------------------------------------------------------------------------------------


def test_asyrp_moves_pictures_to_the_prompt_and_back(model, path, device):
    calls, before = [], {k: v.clone() for k, v in model.net.state_dict().items()}
    options = {"sigma_edit": 0.5, "epochs": 3, "batch": 4, "lr": 3e-3, "optimiser": "adam", "clip_weight": 1.0, "l1_weight": 0.3}
    found = train_asyrp(model, path, delta_of(model), Colours(), "grey", "red", callback=calls.append, **options)
    assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
    assert calls[-1]["n"] == len(calls) == 3 * found.steps and calls[-1]["smooth"] < calls[0]["loss"]
    edits = {
        s: steer_trajectory(model, path, [DeltaEdit(found, EditSchedule(s, sigma_end=found.sigma_edit))], asymmetric=True)
        for s in (-1.0, 1.0)
    }
    assert redness(edits[1.0]) > redness(path.reconstruction) + 0.02
    assert redness(edits[-1.0]) < redness(path.reconstruction) - 0.005
    again = train_asyrp(model, path, delta_of(model), Colours(), "grey", "red", **options)
    assert all(torch.equal(v, again.delta.state_dict()[k]) for k, v in found.delta.state_dict().items())
    for one in (False, True):
        mean = global_shift(model, path, found, one=one)
        assert len(mean.delta.levels) == (1 if one else found.steps)
        moved = steer_trajectory(model, path, [DeltaEdit(mean, EditSchedule(1.0, sigma_end=0.5))], asymmetric=True)
        assert redness(moved) > redness(path.reconstruction) + 0.02


def test_a_table_of_shifts_can_be_trained_too(model, path):
    steps = [s for s in path.sigmas.tolist() if s >= 0.5]
    table = DeltaTable(0.02 * torch.randn(len(steps), 64, 8, 8), torch.tensor(steps))
    found = train_asyrp(
        model, path, table, Colours(), "grey", "red", sigma_edit=0.5, epochs=4, batch=4, lr=0.1, optimiser="adam", l1_weight=0.3
    )
    moved = steer_trajectory(model, path, [DeltaEdit(found, EditSchedule(1.0, sigma_end=0.5))], asymmetric=True)
    assert redness(moved) > redness(path.reconstruction) + 0.02


OPTIONS = {"sigma_edit": 0.5, "epochs": 2, "batch": 2, "lr": 1e-3, "optimiser": "adam"}


def test_a_cancelled_run_leaves_its_latest_state_until_every_picture_was_seen_and_then_its_best(model, path):
    """The running loss of the first few steps is of one easy batch: no state may count as the best for that."""
    steps = len([s for s in path.sigmas.tolist() if s >= 0.5])
    options, kept = stopped(steps - 1)
    with pytest.raises(Cancelled):
        train_asyrp(model, path, delta_of(model), Colours(), "grey", "red", **OPTIONS, **options)
    (fit,) = kept
    assert fit.i == len(fit.losses) == steps - 1
    assert all(torch.equal(v, fit.best[k]) for k, v in fit.module.state_dict().items())
    fit = Fit(nn.Linear(1, 1, bias=False), 0.1, 50, "sgd", warm=4, clip=0.0)
    values = [1.0, 0.1, 5.0, 5.0, 4.0, 3.0, 60.0, 60.0]
    after = []
    for value in values:
        fit.step(value + 0 * fit.parameters[0].sum())
        fit.parameters[0].data.add_(1)  # a state that can be told from the others
        after.append(fit.parameters[0].item() - 1)
    assert fit.best["weight"].item() == after[5]


@pytest.mark.parametrize("chains", [1.0, 1.5])
def test_a_run_on_disk_goes_on_to_the_same_weights(model, path, tmp_path, chains):
    """Stored between two batches, and in the middle of one."""
    whole = train_asyrp(model, path, delta_of(model), Colours(), "grey", "red", **OPTIONS)
    file, facts = tmp_path / "run.safetensors", {}
    options, kept = stopped(int(chains * whole.steps), file)
    with pytest.raises(Cancelled):
        train_asyrp(model, path, delta_of(model), Colours(), "grey", "red", **OPTIONS, **options)
    assert bool(kept[0].carry) == (chains != 1.0)
    again = train_asyrp(
        model, path, delta_of(model, 7), Colours(), "grey", "red", begin=lambda fit: load_state(file, fit, facts), **OPTIONS
    )
    for name, value in whole.delta.state_dict().items():
        torch.testing.assert_close(again.delta.state_dict()[name], value, rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match=r"other settings \(epochs\)"):
        load_state(file, kept[0], {"epochs": 3})
    with pytest.raises(ValueError, match="does not fit"):
        load_state(file, Fit(nn.Linear(2, 2), 0.1, 5), facts)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a usable"):
        load_state(file, kept[0], facts)


def test_asyrp_refuses(model, path):
    with pytest.raises(ValueError, match="lower sigma_edit"):
        train_asyrp(model, path, delta_of(model), Colours(), "grey", "red", sigma_edit=100.0)
    with pytest.raises(ValueError, match="mean the same"):
        train_asyrp(model, path, delta_of(model), Colours(), "red", "red", sigma_edit=0.5)
