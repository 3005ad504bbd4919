"""Every training node with inputs that are there and settings that take a second, for tests that run them all."""

from typing import Any

from .graphs import FACE, base, face, node

RUNS = {
    "HSpaceTrainAsyrp": {"sigma_edit": 0.5, "epochs": 3, "batch": 2, "lr": 0.01, "optimiser": "adam"},
    "HSpaceTrainDiffusionCLIP": {"steps": 3, "epochs": 2, "batch": 2, "lr": 1e-4, "efficient": True, "rank": 2},
    "HSpaceTrainRectifier": {"steps": 6, "batch": 2, "lr": 0.01, "code": 8},
    "HSpaceTrainRectifierEdit": {"sigma_start": 0.0, "steps": 6, "batch": 2, "lr": 0.01},
    "HSpaceFitImageLora": {"steps": 6, "rank": 2, "lr": 1e-3, "seed": 0},
    "HSpaceTrainPada": {
        "steps": 6,
        "batch": 4,
        "lr": 1e-3,
        "young": "face with brown hair",
        "old": "face with grey hair",
        "width": 16,
    },
    "HSpaceTrainDeltaMapper": {"steps": 6, "batch": 4, "lr": 1e-3, "width": 16},
}
"""Those that write states: node and settings."""
HEADS = {"name": "mine", "method": "ridge-lda", "values": " ".join(map(str, range(24)))}


_GUIDED = ("model", "trajectory", "embedder")
_LINKS = {
    "HSpaceTrainAsyrp": _GUIDED,
    "HSpaceTrainDiffusionCLIP": _GUIDED,
    "HSpaceTrainRectifier": ("model", "trajectory"),
    "HSpaceTrainRectifierEdit": (*_GUIDED, "rectifier"),
    "HSpaceFitImageLora": ("model", "image", "positive", "vae"),
    "HSpaceTrainPada": ("code", "image", "embedder", "model"),
    "HSpaceTrainDeltaMapper": ("code", "image", "embedder"),
    "HSpaceTrainHeads": ("codes",),
}
_PROMPTS = {"source": "face", "target": "smiling face"}


def training_inputs(executor, kind: str) -> dict[str, Any]:
    """Inputs of a training node, as objects; what was made for another node is not made again."""
    prompt = {**base(steps=3, iterations=1), "embedder": node("HSpaceLoadFaceEmbedder")}
    prompt[FACE]["inputs"]["count"] = 2
    prompt["rectifier"] = node(
        "HSpaceTrainRectifier", model=["model", 0], trajectory=["invert", 0], steps=2, batch=1, lr=0.01, code=8, seed=5
    )
    prompt |= {
        "text": node("HSpaceLoadFaceTextModel"),
        "said": node("CLIPTextEncode", clip=["text", 1], text="a smiling person"),
    }
    prompt |= {"one": face(3), "many": face(8), "coded": node("HSpaceLoadFaceDiffAE", variant="DiffAE (one code)")}
    prompt["many"]["inputs"]["count"] = 24
    prompt["code"] = node("HSpaceEncodeCode", model=["coded", 0], image=["many", 0])
    places = {
        "model": ("model", 0),
        "trajectory": ("invert", 0),
        "embedder": ("embedder", 0),
        "rectifier": ("rectifier", 0),
        "code": ("code", 0),
        "codes": ("code", 0),
        "image": ("many", 0),
        "positive": ("said", 0),
        "vae": ("text", 2),
    }
    if kind == "HSpaceFitImageLora":
        places |= {"model": ("text", 0), "image": ("one", 0)}
    if kind == "HSpaceTrainPada":
        places["model"] = ("coded", 0)
    links = {name: executor.run(prompt, places[name][0])[0][places[name][1]] for name in _LINKS[kind]}
    prompts = _PROMPTS if {"embedder", "trajectory"} <= links.keys() else {}
    return {**links, **prompts, **RUNS.get(kind, HEADS)}
