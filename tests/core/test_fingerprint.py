"""What fingerprints of models say of each other."""

import pytest
import torch

from core.directions import Directions
from core.fingerprint import PATTERN, check_built_on, differences, parts_of, without_patches

BASE, OTHER = "0123456789ab", "ba9876543210"


def test_parts():
    assert parts_of(BASE) == {"weights": BASE}
    assert parts_of(f"{BASE}+1a2b3c4d") == {"weights": BASE, "": "1a2b3c4d"}
    assert parts_of(f"{BASE}+1a2b3c4d+prediction.00ff00ff+shift.3") == {
        "weights": BASE,
        "": "1a2b3c4d",
        "prediction": "00ff00ff",
        "shift": "3",
    }


def test_weight_patches_and_injections_are_left_out():
    assert (
        without_patches(BASE)
        == without_patches(f"{BASE}+1a2b3c4d")
        == without_patches(f"{BASE}+injection.11112222")
        == BASE
    )
    assert without_patches(f"{BASE}+1a2b3c4d+sigmas.00ff00ff") == f"{BASE}+sigmas.00ff00ff"


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (BASE, OTHER, ["the weights", BASE, OTHER]),
        (BASE, f"{BASE}+1a2b3c4d", ["LoRA", "only here"]),
        (f"{BASE}+1a2b3c4d", BASE, ["LoRA", "only there"]),
        (f"{BASE}+1a2b3c4d", f"{BASE}+ffffffff", ["LoRA", "another strength"]),
        (f"{BASE}+shift.3", f"{BASE}+shift.1.15", ["shift (3 before, 1.15 now)"]),
        (BASE, f"{BASE}+prediction.00ff00ff+sigmas.00ff00ff", ["prediction type", "sigma table"]),
    ],
)
def test_differences_are_named(before, now, words):
    found = differences(before, now)
    assert all(word in found for word in words), found
    assert not differences(now, now)


def test_what_is_built_on_the_same_weights_passes():
    check_built_on(BASE, f"{BASE}+1a2b3c4d", "these", "do")
    for now in (OTHER, f"{BASE}+prediction.00ff00ff"):
        with pytest.raises(ValueError, match=r"these on model 0123456789ab.*differs in"):
            check_built_on(BASE, now, "these", "do")


def test_directions_serve_a_rounded_copy_and_nothing_else():
    rows = torch.ones(1, 1, 4, 1, 1)
    found = Directions(rows, torch.ones(1), torch.ones(1, 1), torch.ones(1, 1), "middle", f"{BASE}+prediction.00ff00ff")
    moved, note = found.on_copy(f"{OTHER}+1a2b3c4d+prediction.00ff00ff")
    assert moved.fingerprint == f"{OTHER}+prediction.00ff00ff" and "the weights" in note and OTHER in note
    moved.check_model(f"{OTHER}+prediction.00ff00ff", ("middle",))
    for other in (OTHER, f"{OTHER}+prediction.11111111", f"{BASE}+prediction.00ff00ff+1a2b3c4d"):
        assert found.on_copy(other) == (found, "")


def test_stored_texts():
    for text in (BASE, f"{BASE}+1a2b3c4d", f"{BASE}+1a2b3c4d+prediction.00ff00ff+shift.1.15"):
        assert PATTERN.fullmatch(text)
    for text in ("", "xyz", f"{BASE}+", f"{BASE}\n", f"{BASE}+../x", BASE * 10):
        assert not PATTERN.fullmatch(text)
