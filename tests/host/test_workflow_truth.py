"""What the shipped workflows show does what they say: judged by the factors that the face world's regressor reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from devtools.workflow_names import role_of

from .test_pipeline import NEED_FILES, ROOT, WORKFLOWS

REGIONS = {"mouth": 1, "eyes": 2, "hair": 3, "glasses": 4}
"""Region -> output of Demo Face that holds its mask."""


@dataclass(frozen=True)
class Claim:
    """What must hold of the pictures that a node shows, beside the face that the workflow starts from.

    Attributes:
        shown: role of the node that shows or gives them, by its title.
        moved: factor -> least change in shares of its range, with its sign; each picture.
        reads: factor -> class that every picture must read as.
        held: factor -> largest change.
        misfit: largest distance of any picture from the nearest face that can be drawn: smears and ghosts raise it.
        outside: region, and the largest RMS change outside of its mask.
    """

    shown: str
    misfit: float
    moved: Mapping[str, float] = field(default_factory=dict)
    reads: Mapping[str, str | float] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)
    outside: tuple[str, float] | None = None


RED: dict[str, str | float] = {"hair_color": "red"}
GREY, BLOND = {"hair_color": "grey"}, {"hair_color": "blond"}
GLASSES: dict[str, str | float] = {"glasses": 1.0}

CLAIMS = {
    "discover_mean_difference": [Claim("Edited", 0.04, {"smile": 0.2}, outside=("mouth", 0.012))],
    "discover_region": [
        Claim("Render Trajectory", 0.025, {"smile": 0.2}, held={"mouth_open": 0.1}, outside=("mouth", 0.006))
    ],
    "discover_track": [Claim("Edited", 0.03, {"smile": 0.2}, held={"mouth_open": 0.1}, outside=("mouth", 0.006))],
    "discover_transport": [Claim("Edited transported", 0.025, {"smile": -0.6}, outside=("mouth", 0.01))],
    "edit_attention_plug_and_play": [
        Claim("Edited", 0.05, {"smile": 0.3}, RED | GLASSES, held={"bg_hue": 0.15, "yaw": 0.1}),
    ],
    "edit_attention_prompt_to_prompt": [
        Claim("Edited", 0.065, {"hair_shade": 0.3}, held={"smile": 0.05}, outside=("hair", 0.01)),
    ],
    "edit_attention_word_mask": [
        Claim("Edited", 0.06, reads=RED, held={"glasses": 0.2, "smile": 0.1}, outside=("hair", 0.02)),
    ],
    "edit_codes_deltaedit": [
        Claim("Blond edit", 0.06, reads=BLOND, held={"smile": 0.1, "bg_hue": 0.1}, outside=("hair", 0.085)),
        Claim("Open mouth edit", 0.048, {"mouth_open": 0.6}, held={"hair_length": 0.1}, outside=("mouth", 0.065)),
    ],
    "edit_codes_diffae_manipulate": [
        Claim("Code alone", 0.05, held={"smile": 0.1, "hair_length": 0.1}),
        Claim("Glasses on", 0.05, reads=GLASSES, held={"smile": 0.1}, outside=("glasses", 0.03)),
        Claim("Red hair too", 0.055, reads=RED | GLASSES, held={"smile": 0.1, "bg_hue": 0.1}),
    ],
    "edit_codes_hdae_style_mix": [
        Claim("With level 0", 0.03, held={"smile": 0.05}),
        Claim("With level 2", 0.06, {"face_width": 0.5}, GLASSES, held={"smile": 0.1}),
    ],
    "edit_codes_pada_age": [Claim("Variants", 0.055, reads=GREY, held={"smile": 0.1, "bg_hue": 0.1})],
    "edit_directions_asyrp_mean": [Claim("Edited", 0.045, {"smile": 0.6}, held={"bg_hue": 0.12})],
    "edit_directions_steer_saved": [
        Claim("Edited", 0.025, {"smile": 0.2}, held={"mouth_open": 0.1}, outside=("mouth", 0.005)),
        Claim("New", 0.05),
    ],
    "edit_noise_edit_friendly": [
        Claim("Edited", 0.035, reads=RED, held={"smile": 0.1, "bg_hue": 0.1}),
        Claim("Edited inside", 0.035, reads=RED, held={"smile": 0.05}, outside=("hair", 0.007)),
    ],
    "edit_noise_exact_inversion": [
        Claim("Edited", 0.045, {"smile": 0.25}, RED, held={"bg_hue": 0.1, "skin": 0.1}),
        Claim("Rebuilt", 0.03, outside=("mouth", 0.001)),
    ],
    "edit_noise_ledits": [Claim("Edited", 0.04, reads=RED | GLASSES, held={"skin": 0.12, "bg_hue": 0.1, "smile": 0.1})],
    "edit_noise_proximal": [Claim("Edited", 0.035, reads=RED, held={"smile": 0.1}, outside=("hair", 0.04))],
    "edit_noise_recolour": [Claim("Edited", 0.04, reads=RED, held={"hair_length": 0.1}, outside=("hair", 0.006))],
    "edit_noise_sdedit": [
        Claim("Edited", 0.04, {"hair_length": 0.6}, RED, held={"smile": 0.1}, outside=("hair", 0.03))
    ],
    "edit_weights_diffusionclip": [
        Claim("Edited", 0.09, reads=RED, held={"bg_hue": 0.08, "smile": 0.08}, outside=("hair", 0.025)),
        Claim("Edited too", 0.095, reads=RED | GLASSES, held={"bg_hue": 0.1, "smile": 0.1}),
        Claim("New", 0.09, reads=RED),
    ],
    "edit_weights_rectified_steering": [Claim("Edited", 0.04, {"smile": 0.15}, outside=("mouth", 0.03))],
    "edit_weights_rectifier": [Claim("Edited", 0.055, {"smile": 0.7}, held={"bg_hue": 0.08}, outside=("mouth", 0.05))],
    "invert_null_text": [Claim("Edited", 0.06, {"smile": 0.4}, RED, held={"bg_hue": 0.1})],
    "train_asyrp": [
        Claim("Edited", 0.04, {"smile": 0.7}, held={"bg_hue": 0.02}, outside=("mouth", 0.006)),
        Claim("Edited too", 0.04, reads=GLASSES | RED, held={"smile": 0.08}, outside=("glasses", 0.016)),
    ],
    "train_asyrp_levels": [
        Claim("Edited", 0.035, reads=RED, held={"smile": 0.05, "skin": 0.05, "bg_hue": 0.05}, outside=("hair", 0.03)),
    ],
    "train_deltaedit": [Claim("Edited", 0.08, reads=RED, held={"smile": 0.1})],
    "train_diffusionclip": [Claim("Edited", 0.1, reads=RED, held={"bg_hue": 0.05}, outside=("hair", 0.025))],
    "train_heads": [Claim("Edited", 0.03, {"eye_open": -0.4}, held={"smile": 0.08})],
    "train_pada": [Claim("Variants", 0.1, reads=GREY)],
}


@pytest.fixture(scope="module")
def regressor(executor):
    """The instrument, and the functions that read with it."""
    weights = executor.module("core.weights_folder").weights_folder() / "face_regressor.safetensors"
    module = executor.module("core.faces.regressor")
    return module, module.load_regressor(weights)


def run(executor, name: str, shown: list[str]) -> tuple[dict, tuple]:
    """Role -> pictures `[n 3 64 64]` in 0..1 that a node of it shows or gives; and what the first Demo Face gives."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    face = next(number for number, entry in prompt.items() if entry["class_type"] == "HSpaceDemoFace")
    roles = {number: role_of(entry["_meta"]["title"]) for number, entry in prompt.items()}
    given = {role: [number, 0] for number, role in roles.items() if role in shown}
    saved = {
        role: prompt[number]["inputs"]["images"]
        for number, role in roles.items()
        if role in shown and "images" in prompt[number]["inputs"]
    }
    links = given | saved
    wanted = list(dict.fromkeys([face, *(number for number, _ in links.values())]))
    outputs = dict(zip(wanted, executor.run(prompt, *wanted), strict=True))
    pictures = {title: outputs[number][slot].movedim(-1, 1) for title, (number, slot) in links.items()}
    return pictures, outputs[face]


@pytest.mark.sweep("")
@pytest.mark.parametrize("name", CLAIMS)
def test_a_workflow_does_what_it_says(executor, regressor, name):
    claims = CLAIMS[name]
    pictures, face = run(executor, name, [claim.shown for claim in claims])
    before = face[0].movedim(-1, 1)
    faults = [
        f"{claim.shown}: {fault}"
        for claim in claims
        for fault in find_faults(regressor, claim, before, pictures[claim.shown], face)
    ]
    assert faults == []


def find_faults(regressor, claim: Claim, before, after, face):
    """Say what of a claim does not hold, with the figures."""
    module, net = regressor
    far = module.misfit(net, after)
    if float(far.max()) > claim.misfit:
        yield f"{far.max():.3f} from a drawn face, at most {claim.misfit}"
    read, changed = module.measure(net, after), module.factor_change(net, before.expand_as(after), after)
    for factor, wanted in claim.reads.items():
        value = HAIR_COLORS.index(wanted) if isinstance(wanted, str) else wanted
        if not bool((read[factor] == value).all()):
            yield f"{factor} reads {read[factor].tolist()}, wanted {wanted} in each"
    for factor, least in claim.moved.items():
        reached = changed[factor] * (1 if least > 0 else -1)
        if float(reached.min()) < abs(least):
            yield f"{factor} moved {changed[factor].tolist()}, wanted {least:+}"
    for factor, most in claim.held.items():
        if float(changed[factor].abs().max()) > most:
            yield f"{factor} moved {changed[factor].tolist()}, at most {most}"
    if claim.outside:
        region, most = claim.outside
        away = 1 - face[REGIONS[region]][:, None]
        rms = float(((after - before).square() * away).sum().div(3 * away.sum()).sqrt())
        if rms > most:
            yield f"RMS {rms:.4f} outside of the {region}, at most {most}"


HAIR_COLORS = ("black", "brown", "blond", "red", "grey")
UNJUDGED = {
    "discover_compare_methods": "shows sheets of four methods side by side; its figures are those of discover_region",
    "discover_explorer": "shows an atlas",
    "discover_global": "shows an atlas",
    "01_start_here": "shows its picture in the editor; tests/host/test_dials.py reads it",
    "edit_noise_edit_dial": "has a model that is no edit model; tests/host/test_edit_dial.py holds its two ends",
    "edit_noise_flowedit": "is measured on 40 edits by benchmarks/text_editing.py",
    "measure_check_model": "makes a report and no picture",
    "edit_codes_diffae_interpolate": "has no one target: frames between two faces, and new people",
    "edit_noise_latent_svd": "starts from noise, so no face is known before it",
    "edit_weights_diffmorpher": "has no one target: frames between two faces",
    "photo_edit": "shows a photograph of 1200x800, which the regressor does not read; its edit is that of discover_region",
    "train_rectifier": "trains for minutes; benchmarks/rectifier.py measures what it makes",
}
"""Workflows that no claim can be made of, and why."""


def test_every_workflow_is_judged_or_says_why_not():
    runs_here = {name for name in WORKFLOWS if not name.endswith(NEED_FILES)}
    assert set(CLAIMS) | set(UNJUDGED) == runs_here and not set(CLAIMS) & set(UNJUDGED)
