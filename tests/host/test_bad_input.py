"""What bad input gets: an error that names it and says what to do, and a server that goes on working."""

from itertools import count

import pytest
import torch
from safetensors.torch import load_file, save_file

from .graphs import FACE, SCHEDULE, base, cancelled, discover, face, invert, node, refused, render, save, steer

SEEDS = count(1000)  # of faces that no prompt before had


@pytest.fixture(autouse=True)
def still_usable(server):
    """After every test of this file a good prompt still runs."""
    yield
    new = {"new face": face(next(SEEDS)), "few": base(steps=3)[SCHEDULE]}
    new["new"] = invert("new face", "few", iterations=1)
    # The host forgets what a prompt does not name: the inversion and the directions of most tests stay.
    prompt = {**base(), "discover": discover(), **new, "save": save(["new", 2])}
    assert "new" not in server.queue(prompt, timeout=300).cached


def with_mask(value: float, width: int = 64, height: int = 64) -> dict:
    """Discovery with a mask of one value."""
    return {
        **base(),
        "mask": node("SolidMask", value=value, width=width, height=height),
        "discover": discover(("mask", 0)),
        "save": save(["discover", 1]),
    }


def test_empty_mask(server):
    refused(server, with_mask(0.0), "mask is empty", "paint the region")


def test_mask_of_another_aspect(server):
    refused(server, with_mask(1.0, 64, 32), "mask must have the aspect of the image (64x64)", "got 64x32")


def test_full_mask_is_allowed_and_says_what_it_means(server):
    prompt = {**with_mask(1.0, 128, 128), "text": node("PreviewAny", source=["discover", 2])}
    (text,) = server.queue(prompt, timeout=300).outputs["text"]["text"]
    assert "the mask covers everything" in text


@pytest.mark.parametrize(("width", "height"), [(60, 64), (64, 36)])
def test_size_that_the_network_cannot_halve(server, width, height):
    prompt = base()
    prompt["scaled"] = node(
        "ImageScale", image=[FACE, 0], upscale_method="area", width=width, height=height, crop="disabled"
    )
    prompt["invert"]["inputs"] |= {"image": ["scaled", 0], "fit": "refuse"}
    refused(server, {**prompt, "save": save(["invert", 2])}, "multiples of 8", f"{width}x{height}", "Upscale Image")


@pytest.mark.parametrize(("kind", "words"), [("nan", ("NaN", "image")), ("bright", ("0..1", "normalise"))])
def test_pictures_that_no_loader_gives(server, kind, words):
    prompt = base()
    prompt[FACE] = node("HSpaceTestPicture", case=kind, width=64, height=64)
    refused(server, {**prompt, "save": save(["invert", 2])}, *words)


def test_a_model_without_a_bottleneck(server):
    prompt = {**base(), "dit": node("HSpaceTestDiT"), "discover": discover()}
    prompt["steer"] = steer(1.0, model=("dit", 0))
    refused(server, {**prompt, "render": render("steer"), "save": save(["render", 0])}, "layer 'middle'", "block.0")


def test_sigmas_without_steps(server):
    prompt = base()
    prompt["sigmas"]["inputs"]["denoise"] = 0.0
    refused(server, {**prompt, "save": save(["invert", 2])}, "sigmas", "steps")


def test_k_beyond_the_limits(server):
    refused(server, {**base(), "discover": discover(k=65), "save": save(["discover", 1])}, "k", "64")


def test_layer_that_the_model_lacks(server):
    refused(
        server,
        {**base(), "discover": discover(layer="up.11"), "save": save(["discover", 1])},
        "no layer 'up.11'",
        "middle",
    )


def other_model(server, pack_weights) -> dict:
    """The face model with other weights, from a file."""
    folder = server.process.models / "hspace"
    folder.mkdir(parents=True, exist_ok=True)
    state, info = pack_weights
    changed = {name: v * 0.9 if name == "conv_out.weight" else v for name, v in state.items()}
    save_file(changed, folder / "other.safetensors", metadata=info)
    return node("HSpaceLoadPixelModel", checkpoint="other.safetensors")


def test_trajectory_of_another_model(server, pack_weights):
    other = other_model(server, pack_weights)
    prompt = {
        **base(),
        "other": other,
        "discover": discover(model=["other", 0]),
    }
    refused(
        server,
        {**prompt, "save": save(["discover", 1])},
        "this trajectory was made with model",
        "connect the same MODEL",
    )
    steered = {**base(), "other": other, "discover": discover()}
    steered |= {"steer": steer(5.0, model=("other", 0)), "render": render("steer"), "save": save(["render", 0])}
    refused(server, steered, "these directions were found on model", "discover directions on this one")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("truncated.safetensors", lambda p, s, i: p.write_bytes(s.read_bytes()[:3000]), ("truncated.safetensors",)),
        (
            "family.safetensors",
            lambda p, s, i: save_file({"some.weight": torch.zeros(3, 3)}, p),
            ("family.safetensors",),
        ),
        (
            "sd.safetensors",
            lambda p, s, i: save_file(
                {
                    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(4, 4),
                    "time_embed.0.weight": torch.zeros(4, 4),
                    "input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3),
                },
                p,
            ),
            ("Load Checkpoint",),
        ),
    ],
)
def test_foreign_and_damaged_checkpoints(server, weights_file, name, make, words):
    folder = server.process.models / "hspace"
    folder.mkdir(parents=True, exist_ok=True)
    make(folder / name, weights_file, None)
    refused(
        server, {"m": node("HSpaceLoadPixelModel", checkpoint=name), "s": node("PreviewAny", source=["m", 2])}, *words
    )


def test_pickle_with_code_is_not_run(server):
    folder = server.process.models / "hspace"
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "ran"

    class Code:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    torch.save({"state_dict": Code()}, folder / "code.pt")
    refused(
        server,
        {"m": node("HSpaceLoadPixelModel", checkpoint="code.pt"), "s": node("PreviewAny", source=["m", 2])},
        "code.pt",
    )
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../escape", "/etc/x", "a\\b", "CON", ""])
def test_names_that_leave_the_folder(server, name):
    prompt = {
        **base(),
        "discover": discover(),
        "save": node("HSpaceSaveDirections", directions=["discover", 0], name=name),
    }
    refused(server, prompt, "name")
    assert not list(server.process.models.glob("escape*"))


def test_direction_files_damaged_or_elsewhere(server):
    folder = server.process.models / "hspace_directions"
    folder.mkdir(parents=True, exist_ok=True)
    good = {
        **base(),
        "discover": discover(),
        "save": node("HSpaceSaveDirections", directions=["discover", 0], name="good"),
    }
    server.queue(good, timeout=300)
    data = bytearray((folder / "good.safetensors").read_bytes())
    (folder / "short.safetensors").write_bytes(data[: len(data) // 2])
    data[40] ^= 0x55
    (folder / "mutated.safetensors").write_bytes(data)
    for name in ("short.safetensors", "mutated.safetensors", "../hspace/code.pt"):
        prompt = {
            **base(),
            "load": node("HSpaceLoadDirections", file=name),
            "steer": steer(5.0, directions=("load", 0)),
        }
        refused(
            server,
            {**prompt, "render": render("steer"), "save": save(["render", 0])},
            "short" if name[0] == "s" else "file",
        )


LOOK = {"model": ["model", 0], "trajectory": ["invert", 0], "mask": [FACE, 1]}
DIALS = {"k": 2, "mode": "generalized", "tau": 0.01, "rank": 20}


def test_a_track_that_runs_upwards(server):
    track = node("HSpaceTrackDirections", **LOOK, **DIALS, sigma_start=0.5, sigma_end=3.0, levels=2)
    refused(
        server,
        {**base(), "track": track, "save": save(["track", 1])},
        "sigma_start must be at least sigma_end",
        "0.5",
        "3",
    )


def test_global_directions_with_masks_for_other_pictures(server):
    three = {**base(), "three": face(5)}
    three["three"]["inputs"]["count"] = 3
    three["invert"]["inputs"]["image"] = ["three", 0]
    three["two"] = face(6)
    three["two"]["inputs"]["count"] = 2
    everywhere = node("HSpaceGlobalDirections", **{**LOOK, "mask": ["two", 1]}, **DIALS, how="match", sigma=1.0)
    refused(server, {**three, "global": everywhere, "save": save(["global", 1])}, "3 pictures, 2 masks")


def test_a_basis_asked_for_more_than_it_holds(server):
    prompt = {**base(), "basis": node("HSpaceRegionBasis", **LOOK, max_k=1, max_rank=0, sigma=1.0, iterations=1)}
    prompt["directions"] = node("HSpaceBasisDirections", basis=["basis", 0], **{**DIALS, "k": 64, "mode": "none"})
    refused(server, {**prompt, "save": save(["directions", 1])}, "k must lie in 1..", "got 64")


def test_edit_state_with_directions_of_h(server):
    edit = node(
        "HSpaceEditState",
        model=["model", 0],
        trajectory=["invert", 0],
        directions=["discover", 0],
        strength=1.0,
        direction=1,
        how="step",
    )
    rendered = render("model", trajectory=["edit", 0])
    refused(
        server,
        {**base(), "discover": discover(), "edit": edit, "render": rendered, "save": save(["render", 0])},
        "steer with them instead",
    )


def test_pca_of_too_few_pictures(server):
    look = {name: LOOK[name] for name in ("model", "trajectory")}
    components = node("HSpaceBaselineDirections", **look, method="PCA of h", k=3, rank=5, sigma=1.0)
    refused(server, {**base(), "pca": components, "save": save(["pca", 1])}, "need more than 3 pictures, got 1")


def test_a_mean_difference_on_two_grids(server):
    prompt = base()
    prompt["coarse"] = node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=1.0)
    prompt["other"] = {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "sigmas": ["coarse", 0]}}
    prompt["apart"] = node(
        "HSpaceMeanDifference", model=["model", 0], positive=["invert", 0], negative=["other", 0], sigma=1.0
    )
    prompt["steer"] = steer(5.0, directions=("apart", 0))
    refused(server, {**prompt, "render": render("steer"), "save": save(["render", 0])}, "inverted on the same sigmas")


def test_transport_to_another_model(server, pack_weights):
    other = other_model(server, pack_weights)
    prompt = {**base(), "other": other, "discover": discover()}
    prompt["there"] = {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "model": ["other", 0]}}
    prompt["basis"] = node(
        "HSpaceRegionBasis",
        **{**LOOK, "model": ["other", 0], "trajectory": ["there", 0]},
        max_k=2,
        max_rank=0,
        sigma=1.0,
    )
    prompt["moved"] = node("HSpaceTransportDirections", directions=["discover", 0], basis=["basis", 0])
    prompt["say"] = node("PreviewAny", source=["moved", 1])
    refused(server, prompt, "these directions were found on model")


def test_protect_without_a_mask(server):
    prompt = {
        **base(),
        "discover": discover(),
        "steer": steer(5.0),
        "render": render("steer", protect=0.5),
        "save": save(["render", 0]),
    }
    refused(server, prompt, "'protect'", "no mask is connected")


def test_cancel_in_the_middle_leaves_everything_usable(server):
    prompt = {**base(steps=200, iterations=20), "save": save(["invert", 2])}
    cancelled(server, prompt, "invert", 2)


@pytest.fixture(scope="module")
def weights_file():
    """The embedded model's file."""
    from devtools.console import ROOT

    return ROOT / "weights" / "face_model.safetensors"


@pytest.fixture(scope="module")
def pack_weights(weights_file):
    """Its tensors and metadata."""
    from safetensors import safe_open

    with safe_open(weights_file, "pt") as f:
        return load_file(weights_file), f.metadata()
