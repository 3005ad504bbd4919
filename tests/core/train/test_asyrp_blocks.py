"""Blocks of Asyrp's shift: their names are the released ones, files load, and at strength 0 nothing changes."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from core.edit.directions.asyrp import AsyrpEdit
from core.edit.directions.shift import asymmetric_factor
from core.edit.directions.steer import SteerOptions, steer_trajectory
from core.edit_schedule import EditSchedule
from core.files.asyrp import (
    asyrp_from_payload,
    asyrp_to_payload,
    edited_steps,
    load_asyrp,
    load_released_asyrp,
    save_asyrp,
)
from core.networks.asyrp import ShiftBlock, ShiftTable, TrainedAsyrp
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.guided import GuidedConfig, GuidedUNet
from core.networks.step import StepEmbedding
from core.networks.vp import VPDenoiser
from core.schedule import Schedule

from ..tiny import block_of, released_for


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
    assert {k for k in block_of(model).block.state_dict()} == {
        f"{n}.{p}" for n in ("conv1", "temb_proj", "norm2", "conv2") for p in ("weight", "bias")
    }
    step = StepEmbedding(32, 128, False, Schedule().sigmas)
    guided = {k for k in ShiftBlock(64, step, "guided").block.state_dict()}
    assert guided == {
        f"{n}.{p}"
        for n in ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
        for p in ("weight", "bias")
    }
    size = sum(
        p.numel() for p in ShiftBlock(512, StepEmbedding(128, 512, True, Schedule().sigmas), "ddpm").block.parameters()
    )
    assert size == pytest.approx(0.79e6, rel=0.01)  # the paper's count


def trained(model, **options) -> TrainedAsyrp:
    return TrainedAsyrp(block_of(model), model.fingerprint, 0.5, **{"steps": 4, "label": "grey > red", **options})


def test_strength_zero_is_the_reconstruction_and_more_steps_count_less(model, path):
    off = AsyrpEdit(trained(model), EditSchedule(0.0))
    for options in ({}, {"asymmetric": True}, {"eta": 0.5}, {"boost": 0.5}):
        assert torch.equal(steer_trajectory(model, path, [off], SteerOptions(**options)), path.reconstruction)
    edit = AsyrpEdit(trained(model), EditSchedule(1.0, sigma_end=0.5))
    covered = sum(s >= 0.5 for s in path.sigmas.tolist())
    assert edit.on(path.sigmas, True).schedule.strength == pytest.approx(4 / covered)
    assert edit.on(path.sigmas, False).schedule.strength == pytest.approx(
        4 / covered / asymmetric_factor([edit], path.sigmas)
    )


def test_a_lowest_level_above_the_trained_ones_is_refused(model):
    kept = trained(model)
    found = replace(kept, extra={**kept.extra, "sigma_start": 3.0})
    assert found.schedule(1.0, 2.0).sigma_end == 2.0 and found.schedule(1.0).sigma_start == 3.0
    with pytest.raises(ValueError, match=r"sigma_end 4 lies above 3"):
        found.schedule(1.0, 4.0)


def test_boost_draws_noise_below_its_level_only(model, path):
    edit = AsyrpEdit(trained(model), EditSchedule(1.0, sigma_end=0.5))
    seen: dict[float, list] = {}
    for boost, seed in ((0.0, 0), (0.3, 0), (0.3, 1)):
        states = []
        steer_trajectory(
            model,
            path,
            [edit],
            SteerOptions(asymmetric=True, boost=boost, seed=seed),
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
        TrainedAsyrp(ShiftTable(torch.randn(3, 64, 8, 8), torch.tensor([2.0, 1.0, 0.5])), model.fingerprint, 0.5, 3),
    ):
        file = save_asyrp(tmp_path / "d.safetensors", made, half=False)
        again = load_asyrp(file)
        h, sigma = torch.randn(2, 64, 8, 8), torch.tensor([1.9, 0.6])
        assert torch.equal(again.shift(h, sigma), made.shift.cpu()(h, sigma))
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
            load_asyrp(file)
    # Shapes that would take 34 GB, in 260 KB.
    payload = asyrp_to_payload(trained(model))
    payload["tensors"]["block.conv1.weight"] = torch.zeros(65536, 1)
    with pytest.raises(ValueError, match="not a usable trained edit"):
        asyrp_from_payload(payload)
    broken = trained(model)
    next(broken.shift.parameters()).data[0] = float("nan")
    with pytest.raises(ValueError, match="not saved"):
        save_asyrp(tmp_path / "nan.safetensors", broken)
    assert not (tmp_path / "nan.safetensors").exists()


def test_released_files(model, tmp_path):
    block = block_of(model).block.state_dict()
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], 0.5).state_dict()
    file = tmp_path / "smiling_LC_CelebA_HQ_t999_ninv40_ngen40_0.pth"
    where = released_for(model)
    torch.save(
        {"0": block, "1": block, "optimizer": optimiser, "scheduler": {"step_size": 20, "_last_lr": [0.5]}}, file
    )
    found = load_released_asyrp(file, **where)
    assert [f.label for f in found] == ["smiling 0", "smiling 1"]
    assert (found[0].steps, found[0].whole_steps) == (edited_steps(where["levels"], 40, 1.0), 40) and 0 < found[
        0
    ].steps < 40
    assert all(torch.equal(v, block[k]) for k, v in found[0].shift.block.state_dict().items())
    torch.save({"999": torch.randn(64, 8, 8), "500": torch.randn(1, 64, 8, 8), 0: torch.randn(1, 64, 8, 8)}, file)
    table, single = load_released_asyrp(file, **where)
    assert (
        len(table.shift.levels) == 2
        and table.shift.levels[0] > table.shift.levels[1]
        and single.label == "smiling, global"
    )
    with pytest.raises(ValueError, match="128"):
        load_released_asyrp(file, **{**where, "channels": 128})
    torch.save({"0": block}, file)
    with pytest.raises(ValueError, match="fits a network of 64 channels"):
        load_released_asyrp(file, **{**where, "channels": 128})
    torch.save(
        {"0": ShiftBlock(64, StepEmbedding(32, 128, False, Schedule().sigmas), "guided").block.state_dict()}, file
    )
    with pytest.raises(ValueError, match="guided family"):
        load_released_asyrp(file, **where)
    torch.save({"0": {"weight": torch.zeros(2)}}, file)
    with pytest.raises(ValueError, match="none of the two known layouts"):
        load_released_asyrp(file, **where)
    torch.save({"conv_in.weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="no numbered blocks"):
        load_released_asyrp(file, **where)
