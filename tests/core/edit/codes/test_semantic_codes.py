"""What is done with semantic codes, and the steps of their sampler."""

import math

import pytest
import torch
from torch.nn import functional as F

from core.codes import CodeSpace
from core.edit.codes.manipulate import CAP, direction, interpolate, interpolated_frames, manipulate, mix, noise_frames
from core.edit.weights.interpolate import slerp
from core.schedule import Schedule, grid, snap_steps, stride_sigmas, stride_steps

from ...spaces import FINGERPRINT, SPACES, heads_of


def test_manipulation_is_the_released_formula():
    space = SPACES[0]
    heads, z = heads_of(space), torch.randn(3, 16)
    w = heads.weight[2]
    literal = ((z - space.mean) / space.std + 0.3 * math.sqrt(16) * w / w.norm()) * space.std + space.mean
    torch.testing.assert_close(manipulate(z, space, direction(heads, "glasses"), 0.3), literal, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_strength_0_is_the_code_bit_for_bit(space):
    unit, z = direction(heads_of(space), "smile", keep=0.2), torch.randn(3, *space.shape)
    z[0].view(-1)[0] = -0.0
    z[1] *= 1e-30
    same = manipulate(z, space, unit, 0.0)
    assert torch.equal(same.view(torch.int32), z.view(torch.int32))
    row = manipulate(z, space, unit, torch.tensor([0.0, 0.5, -0.5]))
    assert torch.equal(row[0].view(torch.int32), z[0].view(torch.int32)) and not torch.equal(row[1], z[1])
    torch.testing.assert_close(row[1:2], manipulate(z[1:2], space, unit, 0.5))
    still = (unit == 0).reshape(space.shape)
    assert still.any() and torch.equal(row[:, still], z[:, still]), "what does not change keeps its bits"


def test_strength_compares_between_numbers_of_levels():
    for space in SPACES:
        unit, z = direction(heads_of(space), "smile"), torch.randn(1, *space.shape)
        moved = space.normalise(manipulate(z, space, unit, 0.5)) - space.normalise(z)
        assert moved.norm().item() == pytest.approx(0.5 * math.sqrt(space.shape[-1]), rel=1e-4)
        far = space.normalise(manipulate(z, space, unit, 0.5, scale=7.0)) - space.normalise(z)
        assert far.norm().item() == pytest.approx(3.5, rel=1e-4)


def test_the_change_of_a_coordinate_is_capped():
    space = SPACES[1]
    unit, z = direction(heads_of(space), "smile", keep=0.05), torch.zeros(1, 3, 8)
    for sign in (1, -1):
        moved = space.normalise(manipulate(z, space, unit, sign * 10.0)) - space.normalise(z)
        torch.testing.assert_close(moved.abs().max(), torch.tensor(CAP), rtol=1e-4, atol=0)


@pytest.mark.parametrize("per_level", [False, True])
@pytest.mark.parametrize("keep", [0.05, 0.25, 0.5, 1.0])
def test_truncation_keeps_the_largest(keep, per_level):
    space = SPACES[1]
    heads = heads_of(space)
    unit = direction(heads, "young", keep=keep, per_level=per_level)
    w = heads.weight[3]
    rows = w.reshape(3, 8) if per_level else w.reshape(1, 24)
    expected = torch.zeros_like(rows)
    for row, out in zip(rows, expected, strict=True):
        for i in sorted(range(len(row)), key=lambda i: -abs(float(row[i])))[: math.ceil(keep * len(row))]:
            out[i] = row[i]
    torch.testing.assert_close(unit, expected.flatten() / expected.norm())


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_held_attributes_do_not_react(keep):
    for space in SPACES:
        heads, z = heads_of(space), torch.randn(2, *space.shape)
        unit = direction(heads, "smile", keep=keep, against=["glasses", "Young"])
        change = heads.scores(manipulate(z, space, unit, 0.5)) - heads.scores(z)
        assert change[:, [2, 3]].abs().max() < 1e-4 < change[:, 0].min()
        assert unit.norm().item() == pytest.approx(1, abs=1e-6)
        assert (unit != 0).sum() <= math.ceil(keep * space.size)
    w, others = heads.weight[0].double(), heads.weight[[2, 3]].double().T
    literal = w - others @ torch.linalg.lstsq(others, w[:, None]).solution[:, 0]
    plain = direction(heads, "smile", against=["glasses", "Young"]).double()
    torch.testing.assert_close(plain, literal / literal.norm(), atol=1e-6, rtol=1e-5)


def test_levels_that_may_not_change():
    space = SPACES[1]
    heads, z = heads_of(space), torch.randn(2, 3, 8)
    unit = direction(heads, "smile", levels=[0, 2], keep=0.5)
    moved = manipulate(z, space, unit, 0.5)
    assert torch.equal(moved[:, 1], z[:, 1]) and (moved[:, [0, 2]] != z[:, [0, 2]]).sum() == 2 * 8
    for kwargs, message in (
        ({"levels": [3]}, "levels 0 .finest. to 2, got 3"),
        ({"levels": []}, "nothing is left"),
        ({"keep": 0.0}, "above 0"),
        ({"against": ["smile"]}, "cannot be held"),
        ({"against": ["Black_Hair", "glasses"], "keep": 0.05}, "nothing is left"),
    ):
        with pytest.raises(ValueError, match=message):
            direction(heads, "smile", **kwargs)


def test_wrong_manipulations():
    space = SPACES[0]
    unit = direction(heads_of(space), "smile")
    for code, direct, strength, message in (
        (torch.randn(2, 15), unit, 0.3, "codes of this model"),
        (torch.randn(2, 16), unit[:5], 0.3, "a direction of these codes"),
        (torch.randn(2, 16), unit, math.nan, "one finite number"),
        (torch.randn(2, 16), unit, torch.ones(3), "one a code"),
    ):
        with pytest.raises(ValueError, match=message):
            manipulate(code, space, direct, strength)
    with pytest.raises(ValueError, match="unknown, which normalised edits need"):
        manipulate(torch.randn(2, 16), CodeSpace((16,), FINGERPRINT), unit, 0.3)


def test_interpolation():
    a, b = torch.randn(2, 3, 8), torch.randn(2, 3, 8) * 1e3
    assert torch.equal(interpolate(a, b, 0.0), a) and torch.equal(interpolate(a, b, 1.0), b)
    torch.testing.assert_close(interpolate(a, b, 0.25), 0.75 * a + 0.25 * b)
    part = interpolate(a, b, [0.0, 0.5, 1.0])
    assert torch.equal(part[:, 0], a[:, 0]) and torch.equal(part[:, 2], b[:, 2])
    torch.testing.assert_close(part[:, 1], (a[:, 1] + b[:, 1]) / 2)
    assert torch.equal(interpolate(a[:, 0], b[:, 0], 0.3), torch.lerp(a[:, 0], b[:, 0], 0.3))
    for other, alpha, message in (
        (b[:1], 0.5, "one model and number"),
        (b, [0.5], "each of 3 levels"),
        (b, 1.5, "between 0"),
        (b, math.nan, "between 0"),
    ):
        with pytest.raises(ValueError, match=message):
            interpolate(a, other, alpha)


def test_mixing_of_levels():
    space = SPACES[1]
    a, b = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    assert torch.equal(mix(a, b, space, []), a) and torch.equal(mix(a, b, space, range(3)), b)
    mixed = mix(a, b, space, [2])
    assert torch.equal(mixed[:, :2], a[:, :2]) and torch.equal(mixed[:, 2], b[:, 2])
    flat = SPACES[0]
    assert torch.equal(mix(a.reshape(3, 16), b.reshape(3, 16), flat, [0]), b.reshape(3, 16))
    with pytest.raises(ValueError, match="levels 0"):
        mix(a, b, space, [-1])
    with pytest.raises(ValueError, match="of one number"):
        mix(a, b[:1], space, [0])


def test_arc_between_noises_is_the_released_formula():
    a, b = torch.randn(3, 8, 8), torch.randn(3, 8, 8)
    theta = torch.arccos(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))
    literal = (torch.sin(0.7 * theta) * a + torch.sin(0.3 * theta) * b) / torch.sin(theta)
    torch.testing.assert_close(slerp(a, b, [0.3])[0], literal, atol=1e-5, rtol=1e-5)


VALID = {
    *range(2, 37),
    38,
    39,
    40,
    42,
    44,
    46,
    48,
    50,
    53,
    56,
    59,
    63,
    67,
    72,
    77,
    84,
    91,
    100,
    112,
    125,
    143,
    167,
    200,
    250,
    334,
    500,
    1000,
}


def test_strides_of_the_released_sampler():
    for n in range(2, 1001):
        if n not in VALID:
            with pytest.raises(ValueError, match=f"use {snap_steps(n)}"):
                stride_steps(n)
            near = min(abs(m - n) for m in VALID)
            assert snap_steps(n) in VALID and abs(snap_steps(n) - n) == near
            continue
        stride = next(
            s for s in range(1, 1001) if -(-1000 // s) == n
        )  # the smallest, as the released code looks for it
        assert stride_steps(n).flip(0).tolist() == list(range(0, 1000, stride)) and snap_steps(n) == n
    assert snap_steps(60) == 59 and snap_steps(300) == 334 and snap_steps(1) == 1 and snap_steps(150) == 143
    assert torch.equal(grid(Schedule(), 50, "stride"), stride_steps(50))
    for n in (0, 1001):
        with pytest.raises(ValueError, match="between 1 and 1000"):
            snap_steps(n)


def test_frames_go_from_one_picture_to_the_other():
    space = CodeSpace((2, 3), FINGERPRINT)
    a, b, places = torch.randn(1, 2, 3), torch.randn(1, 2, 3), [0.0, 0.25, 1.0]
    codes = interpolated_frames(a, b, space, places, [1])
    assert torch.equal(codes[0], a[0]) and torch.equal(codes[:, 0], a[:, 0].expand(3, -1))
    assert torch.equal(codes[2, 1], b[0, 1])
    one, two = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    assert torch.equal(noise_frames(one, two, places), slerp(one[0], two[0], places))
    assert torch.equal(noise_frames(one, one, places), one.repeat(3, 1, 1, 1))
    with pytest.raises(ValueError, match="latents of one size"):
        noise_frames(one, two[..., :1], places)


def test_strides_through_the_levels_of_a_model():
    levels = torch.linspace(0.1, 10, 1000)
    sigmas, taken = stride_sigmas(levels, 100)
    assert taken == 100 and torch.equal(sigmas[:-1], levels[stride_steps(100)]) and sigmas[-1] == 0
    assert stride_sigmas(levels[:50], 100)[1] == 50
