"""Graphs whose pictures come three together, or the last of them alone."""

from collections.abc import Callable

from .code_graphs import age, delta_edit
from .graphs import custom_sampler, edit_friendly, face, invert, node, steer

ROW, PICTURES = 2, 3


def world(alone: bool) -> dict[str, dict]:
    """The face model, three faces or the last of them, inverted."""
    faces = face()
    faces["inputs"]["count"] = PICTURES
    prompt = {
        "region": face(),
        "model": node("HSpaceLoadFaceModel"),
        "faces": faces,
        "image": node("ImageFromBatch", image=["faces", 0], batch_index=0, length=PICTURES),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=4, denoise=1.0),
        "euler": node("KSamplerSelect", sampler_name="euler"),
        "random": node("RandomNoise", noise_seed=4),
        "invert": invert("image", "sigmas"),
    }
    if alone:
        prompt["image"]["inputs"] |= {"batch_index": ROW, "length": 1}
    return prompt


def rendered(**options) -> dict:
    return node(
        "HSpaceRenderTrajectory",
        trajectory=["invert", 0],
        **{"model": ["model", 0], "asymmetric": False, "protect": 0.0, "seed": 7, **options},
    )


def asyrp() -> dict:
    """A MODEL with a trained edit."""
    return {
        "smile": node("HSpaceLoadTrained", file="hspace/smile.safetensors"),
        "smiling": node("HSpaceSteerTrained", model=["model", 0], trained=["smile", 0], strength=1.0),
    }


def sampled(model: str, sampler: list, sigmas: list, latent: list) -> dict:
    return {
        "guide": node("BasicGuider", model=[model, 0], conditioning=["model", 2]),
        "run": custom_sampler("random", "guide", sampler, sigmas, latent),
    }


def resumed() -> dict:
    resume = node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=True, eta=0.7)
    return asyrp() | {"resume": resume} | sampled("smiling", ["resume", 0], ["resume", 1], ["invert", 1])


def repeated() -> dict:
    """The host's first noise is told by the row's place in the batch, which Latent From Batch keeps."""
    faces = {"all": node("VAEEncode", pixels=["faces", 0], vae=["model", 1])}
    picked = {"latent": node("LatentFromBatch", samples=["all", 0], batch_index=0, length=PICTURES)}
    repeat = {
        "levels": node("HSpaceSDEditSigmas", model=["model", 0], t0=0.2, steps=3, spacing="uniform"),
        "repeat": node("HSpaceSDEditRepeat", sampler=["euler", 0], repeats=3, noise="new"),
    }
    return faces | picked | repeat | sampled("model", ["repeat", 0], ["levels", 0], ["latent", 0])


def coded() -> dict:
    """The DiffAE, and codes of the faces."""
    return {
        "coder": node("HSpaceLoadFaceDiffAE", variant="DiffAE (one code)"),
        "code": node("HSpaceEncodeCode", model=["coder", 0], image=["image", 0]),
        "embedder": node("HSpaceLoadFaceEmbedder"),
    }


def aged() -> dict:
    return coded() | {
        "pada": node("HSpaceLoadPada", file="hspace/diffae.safetensors"),
        "run": age("pada", seed=3),
    }


TEXT = "HSpaceLoadFaceTextModel"


def sampled_back() -> dict:
    back = node("HSpaceSampleEditFriendly", trajectory=["friendly", 0], skip=1)
    return (
        asyrp()
        | {"friendly": edit_friendly("image", "sigmas", seed=5), "back": back}
        | sampled("smiling", ["back", 0], ["back", 1], ["friendly", 1])
    )


def exact() -> dict:
    back = node("HSpaceSampleExactInversion", trajectory=["pair", 0])
    return (
        asyrp()
        | {"pair": invert("image", "sigmas", "edict"), "back": back}
        | sampled("smiling", ["back", 0], ["back", 1], ["pair", 1])
    )


def guide_batch(guider: Callable[[], dict]) -> dict:
    """The model with prompts, an inverted batch, and a GUIDER called guide."""
    words = {
        name: node("CLIPTextEncode", clip=["model", 1], text=text)
        for name, text in (("empty", ""), ("glasses", "face with glasses"))
    }
    friendly = edit_friendly("image", "sigmas", seed=5, positive=["empty", 0], vae=["model", 2])
    back = node("HSpaceSampleEditFriendly", trajectory=["friendly", 0], skip=1)
    run = sampled("model", ["back", 0], ["back", 1], ["friendly", 1])
    return {"model": node(TEXT), **words, "friendly": friendly, "back": back, **run, **guider()}


def concepts() -> dict:
    return {
        "concept": node("HSpaceEditConcept", conditioning=["glasses", 0], scale=5.0, threshold=0.8, reverse=False),
        "guide": node(
            "HSpaceConceptEditGuider",
            model=["model", 0],
            negative=["empty", 0],
            concepts=["concept", 0],
            mask=["region", 2],
        ),
    }


def proximal() -> dict:
    return {
        "near": node("HSpaceProximalCFG", model=["model", 0], mode="soft", quantile=0.7),
        "guide": node("CFGGuider", model=["near", 0], positive=["glasses", 0], negative=["empty", 0], cfg=5.0),
    }


def edited_state() -> dict:
    """Directions of one picture, whichever pictures they move."""
    one = {**world(True)["image"], "inputs": {**world(True)["image"]["inputs"], "batch_index": 1}}
    look = {
        "model": ["model", 0],
        "trajectory": ["path", 0],
        "k": 1,
        "rank": 2,
        "sigma": 0.0,
        "iterations": 1,
        "seed": 0,
    }
    return {
        "one": one,
        "path": invert("one", "sigmas"),
        "ways": node("HSpaceBaselineDirections", method="LOCO Edit (x)", **look),
        "run": node(
            "HSpaceEditState",
            model=["model", 0],
            trajectory=["invert", 0],
            directions=["ways", 0],
            strength=1.0,
            direction=1,
            how="guidance",
            repeats=2,
        ),
    }


def delta_edited() -> dict:
    return coded() | {
        "mapper": node("HSpaceLoadDeltaMapper", file="hspace/diffae.safetensors"),
        "run": delta_edit(0.7, "mapper", image=False, relevance=0.5),
    }


def manipulated() -> dict:
    dials = {"attribute": "glasses", "strength": 0.4, "top_k": 30.0}
    return coded() | {"run": node("HSpaceManipulateCode", code=["code", 0], attributes=["coder", 2], **dials)}


def rectified() -> dict:
    return {
        "rebuild": node("HSpaceLoadRectifier", file="hspace/reconstruction.safetensors"),
        "better": node(
            "HSpaceApplyRectifier", model=["model", 0], trajectory=["invert", 0], rectifier=["rebuild", 0], strength=1.0
        ),
        "run": rendered(model=["better", 0]),
    }


def tuned() -> dict:
    return {
        "lora": node("HSpaceLoadFineTuned", file="hspace/smile.safetensors"),
        "mixed": node("HSpaceSteerFineTuned", model=["model", 0], lora=["lora", 0], degree=0.7),
        "run": rendered(model=["mixed", 0]),
    }


def steered() -> dict:
    return {
        "ways": node("HSpaceLoadDirections", file="hspace/mouth.safetensors"),
        "moved": steer(8.0, ("ways", 0), normalise="h"),
        "run": rendered(model=["moved", 0], protect=0.5, mask=["region", 2]),
    }


def svd(kind: str) -> Callable[[], dict]:
    def nodes() -> dict:
        if kind == "HSpaceLatentSVD":
            return {
                "run": node(
                    kind, model=["model", 0], latent=["invert", 1], first=1, count=2, factor=1.5, sigmas=["sigmas", 0]
                )
            }
        both = {
            "source": ["invert", 1],
            "target": ["other", 1],
            "source_sigmas": ["sigmas", 0],
            "target_sigmas": ["sigmas", 0],
        }
        return {
            "other": invert("image", "sigmas", "ddim A"),
            "run": node(kind, model=["model", 0], leading=4, gain=0.5, **both),
        }

    return nodes
