"""What comes in from elsewhere is said in plain short words, and payloads are read in full."""

import math

import pytest
import torch

from core.directions import Directions
from core.edit.attention.feature_blocks import parse_blocks
from core.edit.weights.interpolate import MOST, parse_alphas
from core.foreign import check_conditioning, is_dense, named, shown
from core.payload import directions_from_payload, directions_to_payload, trajectory_from_payload, trajectory_to_payload
from core.trajectory import ExactMethod, Trajectory

NAN = math.nan
X = torch.zeros(1, 3, 4)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (3, "3"),
        (True, "True"),
        (NAN, "nan"),
        ("\x1b\0\ud800", r"'\x1b\x00\ud800'"),
        (2**500, "a whole number of 501 bits"),
        ([1, 2], "a list of 2"),
        ({}, "a dict of 0"),
        (torch.zeros(2, 0), "a tensor [2, 0] of float32"),
        (object(), "an object of type object"),
        ("x" * 99, "'" + "x" * 56 + "..."),
        (torch.nested.nested_tensor([torch.zeros(2)]), "a nested tensor"),
    ],
)
def test_values_are_shown_in_plain_short_words(value, text):
    assert shown(value) == text


def test_what_an_ordinary_tensor_is():
    assert is_dense(X, 3) and is_dense(X.half(), 2, 3) and is_dense(X.double(), 3)
    for odd in (
        None,
        [0.0],
        X[:0],
        X.long(),
        X.to(torch.complex64),
        X.to("meta"),
        X.to_sparse(),
        X.to(torch.float8_e4m3fn),
        X[0],
    ):
        assert not is_dense(odd, 3)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        X,
        [X],
        [[]],
        [[X]],
        [[X, None]],
        [[None, {}]],
        [[X[0], {}]],
        [[X[:0], {}]],
        [[X[:, :0], {}]],
        [[X + NAN, {}]],
        [[X.long(), {}]],
        [[X, {"pooled_output": "x"}]],
        [[X, {"pooled_output": X[0] + NAN}]],
        [[X, {}], [X, {}, 3]],
    ],
)
def test_what_is_no_conditioning_is_refused_by_name(value):
    with pytest.raises(ValueError, match="positive"):
        check_conditioning(value, "positive")


def test_what_is_conditioning_passes():
    check_conditioning([[X, {}], (X.half(), {"pooled_output": X[0]}), [X, {"pooled_output": None}]], "positive")


def test_an_error_is_named():
    with pytest.raises(ValueError, match=r"^words: no such word$"), named("words"):
        raise ValueError("no such word")


def trajectory() -> dict:
    """A payload with everything that inversions store."""
    states, sigmas = torch.randn(3, 1, 3, 4, 4), torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    return trajectory_to_payload(
        Trajectory(
            sigmas,
            states,
            "abcdef",
            "edict",
            noises=states[1:],
            reconstruction=states[-1],
            residual=torch.rand(2),
            prompts={"positive": [[X, {}]], "negative": [], "cfg": 1.0},
            exact=ExactMethod("edict", 0.93),
            pair=torch.randn(2, 1, 3, 4, 4, dtype=torch.float64),
        )
    )


def test_a_whole_payload_passes():
    back = trajectory_from_payload(trajectory())
    assert back.prompts == {"positive": [[X, {}]], "negative": [], "cfg": 1.0}
    assert back.exact == ExactMethod("edict", 0.93) and back.pair is not None


def version_1(**extra) -> dict:
    """A payload as other packs, and this one before, wrote it: what inversions store lies in ``extra``."""
    payload = trajectory() | {"version": 1}
    new = ("noising", "prompts", "exact", "pair", "seed", "moved")
    return {k: v for k, v in payload.items() if k not in new} | {"extra": extra}


def test_version_1_is_read():
    pair, prompts = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64), {"positive": [[X, {}]], "negative": [], "cfg": 2.0}
    back = trajectory_from_payload(
        version_1(
            flow=True, prompts=prompts, exact={"method": "bdia", "gamma": 1}, pair=pair, moved=True, seed=3, other="x"
        )
    )
    assert back.noising == "flow" and back.prompts == prompts and back.moved and back.seed == 3
    assert back.exact == ExactMethod("bdia", 1) and back.pair is pair
    lean = trajectory_from_payload(version_1())
    assert lean.noising == "sigma" and lean.prompts is None and lean.exact is None and not lean.moved
    assert trajectory_from_payload({k: v for k, v in version_1().items() if k != "extra"}).noising == "sigma"


@pytest.mark.parametrize("shape", [(8, 4), (4, 3, 8, 8), (4, 8)])
def test_states_and_directions_of_any_rank_travel(shape):
    states, sigmas = torch.randn(3, 2, *shape), torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    path = Trajectory(sigmas, states, "abcdef", noises=states[1:], reconstruction=states[-1])
    back = trajectory_from_payload(trajectory_to_payload(path))
    assert torch.equal(back.image(1).states, states[:, 1:]) and torch.equal(back.image(1).repeat(3).x0[2], states[2, 1])
    zero = torch.zeros(1, 2)
    found = Directions(torch.randn(1, 2, *shape), sigmas[:1], zero, zero, "block.3", "abcdef")
    assert torch.equal(directions_from_payload(directions_to_payload(found)).vectors, found.vectors)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("sigmas", torch.tensor([NAN, 1.0, 0.0]), "sigmas"),
        ("sigmas", torch.tensor(1.0), "sigmas"),
        ("sigmas", torch.tensor([2, 1, 0]), "sigmas"),
        ("states", torch.zeros(3, 0, 3, 4, 4), "states"),
        ("states", torch.zeros(3, 1, 3, 4, 4, dtype=torch.long), "states"),
        ("noises", torch.zeros(3, 1, 3, 4, 4), "noises"),
        ("noises", torch.full((2, 1, 3, 4, 4), NAN), "noises"),
        ("reconstruction", torch.zeros(1, 3, 8, 8), "reconstruction"),
        ("residual", torch.zeros(5), "residual"),
        ("method", None, "method"),
        ("prompts", "x", "prompts"),
        ("prompts", {"other": 3}, "prompts"),
        ("prompts", {"cfg": NAN}, "cfg"),
        ("prompts", {"positive": [[None, {}]]}, "positive"),
        ("noising", "x", "noising"),
        ("moved", "x", "moved"),
        ("exact", "x", "exact"),
        ("exact", {"method": "edict"}, "exact"),
        ("exact", {"method": "edict", "parameter": NAN}, "exact"),
        ("pair", torch.zeros(2, 1, 3, 8, 8), "pair"),
    ],
)
def test_a_damaged_trajectory_is_refused(key, value, word):
    with pytest.raises(ValueError, match=f"HSPACE_TRAJECTORY.*{word}"):
        trajectory_from_payload({**trajectory(), key: value})


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("sigmas", torch.tensor([NAN]), "levels"),
        ("sigmas", torch.tensor([-1.0]), "levels"),
        ("gain", torch.tensor([[NAN]]), "gain"),
        ("leak", torch.tensor([[math.inf]]), "leak"),
        ("spectrum", torch.tensor([NAN]), "spectrum"),
        ("mask", torch.zeros(3), "mask"),
        ("mask", torch.full((4, 4), NAN), "mask"),
        ("labels", [None], "labels"),
        ("vectors", torch.full((1, 1, 2, 2, 2), NAN), "NaN"),
    ],
)
def test_damaged_directions_are_refused(key, value, word):
    one = torch.zeros(1, 1)
    good = directions_to_payload(Directions(torch.zeros(1, 1, 2, 2, 2), torch.ones(1), one, one, "middle", "abcdef"))
    assert len(directions_from_payload(good)) == 1
    with pytest.raises(ValueError, match=f"HSPACE_DIRECTIONS.*{word}"):
        directions_from_payload({**good, key: value})
    assert len(directions_from_payload({**good, "version": 1})) == 1


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        ({"prompts": "x"}, "prompts"),
        ({"prompts": {"other": 3}}, "prompts"),
        ({"prompts": {"cfg": NAN}}, "cfg"),
        ({"prompts": {"positive": [[None, {}]]}}, "positive"),
        ({"flow": "x"}, "flow"),
        ({"exact": "x"}, "exact"),
        ({"exact": {"method": "edict"}}, "exact"),
        ({"exact": {"method": "edict", "mixing": NAN}}, "exact"),
        ({"pair": torch.zeros(2, 1, 3, 8, 8)}, "pair"),
        (None, "extra"),
    ],
)
def test_damaged_version_1_is_refused(extra, word):
    with pytest.raises(ValueError, match=f"HSPACE_TRAJECTORY.*{word}"):
        trajectory_from_payload(version_1() | {"extra": extra})


def test_texts_that_name_endless_numbers_are_refused_at_once():
    with pytest.raises(ValueError, match="f_blocks"):
        parse_blocks("4-99999999999", [("output", 4)], "f_blocks")
    assert len(parse_alphas("0.5 " * MOST)) == MOST
    with pytest.raises(ValueError, match=f"at most {MOST}"):
        parse_alphas("0.5 " * (MOST + 1))
