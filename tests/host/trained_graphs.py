"""Graphs that train edits of faces and render with them."""

import numpy as np

from .graphs import FACE, base, custom_sampler, node, pictures, render, save


def faces(count: int = 3, steps: int = 5) -> dict:
    """Several inverted faces and the embedder."""
    prompt = base(steps=steps, iterations=1)
    prompt[FACE]["inputs"]["count"] = count
    return {**prompt, "embedder": node("HSpaceLoadFaceEmbedder")}


def _train(kind: str, **inputs) -> dict:
    """A training of a node on the inverted faces; ``inputs`` that are links bring what else it needs."""
    return node(kind, model=["model", 0], trajectory=["invert", 0], **inputs)


def asyrp(**options) -> dict:
    dials = {"sigma_edit": 0.5, "epochs": 1, "batch": 2, "lr": 0.01, "optimiser": "adam"}
    inputs = {"source": "face", "target": "smiling face", **dials, **options}
    return _train("HSpaceTrainAsyrp", embedder=["embedder", 0], **inputs)


def tuned(**options) -> dict:
    dials = {"steps": 3, "epochs": 1, "batch": 2, "lr": 1e-4, "efficient": True, "rank": 2}
    inputs = {"source": "face", "target": "face with red hair", **dials, **options}
    return _train("HSpaceTrainDiffusionCLIP", embedder=["embedder", 0], **inputs)


def rectifier(**options) -> dict:
    return _train("HSpaceTrainRectifier", **{"steps": 6, "batch": 2, "lr": 0.01, "code": 8, **options})


def rectifier_edit(**options) -> dict:
    dials = {"sigma_start": 0.0, "steps": 6, "batch": 2, "lr": 0.01}
    links = {"rectifier": ["rectifier", 0], "embedder": ["embedder", 0]}
    inputs = {"source": "face", "target": "smiling face", **dials, **options}
    return _train("HSpaceTrainRectifierEdit", **links, **inputs)


def both_ways(name: str, model: str, asymmetric: bool = False) -> dict:
    """Render, and the stock sampler on the same trajectory; both saved."""
    return {
        f"render {name}": render(model, asymmetric=asymmetric),
        f"keep {name}": save([f"render {name}", 0]),
        f"guider {name}": node("BasicGuider", model=[model, 0], conditioning=["model", 2]),
        f"noise {name}": node("DisableNoise"),
        f"resume {name}": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=asymmetric, eta=0.0),
        f"sample {name}": custom_sampler(
            f"noise {name}", f"guider {name}", f"resume {name}", [f"resume {name}", 1], ["invert", 1]
        ),
        f"decode {name}": node("VAEDecode", samples=[f"sample {name}", 0], vae=["model", 1]),
        f"save {name}": save([f"decode {name}", 0]),
    }


def same(server, result, name: str) -> None:
    """Render and stock sampler agree to the rounding of a picture."""
    a, b = (np.stack(pictures(server, result, f"{kind} {name}")).astype(int) for kind in ("keep", "save"))
    assert np.abs(a - b).max() <= 1


def apart(server, result, a: str, b: str) -> float:
    one, two = (np.stack(pictures(server, result, f"keep {name}")).astype(float) for name in (a, b))
    return float(np.abs(one - two).mean())
