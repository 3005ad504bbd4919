"""What the nodes of the sweep over every dial are connected to: small graphs, run once."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from typing import Any

import torch

from .graphs import custom_sampler, discover, edit_friendly, face, invert, node

STEPS = 4


_SECONDS = re.compile(r"\d+(\.\d+)? s\b")


@dataclasses.dataclass(frozen=True)
class Link:
    """An output of the world."""

    name: str
    output: int = 0


def at(name: str, output: int = 0) -> Link:
    """An output of the world."""
    return Link(name, output)


def _scheduler(model: str, steps: int = STEPS, denoise: float = 1.0) -> dict:
    return node("BasicScheduler", model=[model, 0], scheduler="karras", steps=steps, denoise=denoise)


def _invert(model: str, image: str, sigmas: str, **options: Any) -> dict:
    return invert(image, sigmas, model=model, **{"iterations": 1, **options})


def _many(count: int, seed: int = 35, **values: Any) -> dict:
    faces = face(seed, **values)
    faces["inputs"]["count"] = count
    return faces


def _pullback(model: str, trajectory: str, k: int, sigma: float) -> dict:
    """Directions of the state."""
    return node(
        "HSpaceBaselineDirections",
        model=[model, 0],
        trajectory=[trajectory, 0],
        method="pullback (x)",
        k=k,
        rank=5,
        sigma=sigma,
        iterations=1,
    )


def _halves(model: str, positive: list, prefix: str) -> dict[str, dict]:
    """Latents in the middle of sampling."""
    return {
        f"{prefix} split": node("SplitSigmas", sigmas=["tiny sigmas", 0], step=1),
        f"{prefix} guide": node("BasicGuider", model=[model, 0], conditioning=positive),
        prefix: custom_sampler("noise", f"{prefix} guide", "euler", f"{prefix} split", "tiny latent"),
    }


def _dots(name: str, *places: tuple[int, int]) -> dict[str, dict]:
    """Dots in a mask of 160 x 120."""
    parts: dict[str, dict] = {"dot": node("SolidMask", value=1.0, width=5, height=5)}
    last = "wide black"
    for i, (x, y) in enumerate(places, 1):
        part = name if i == len(places) else f"{name} {i}"
        links = {"destination": [last, 0], "source": ["dot", 0]}
        parts[part], last = node("MaskComposite", **links, x=x, y=y, operation="add"), part
    return parts


WORLD: dict[str, dict] = {
    # Faces in pixels.
    "model": node("HSpaceLoadFaceModel"),
    "face": face(),
    "two": _many(2),
    "some": _many(3),
    "other face": face(48),
    "sigmas": _scheduler("model", 6),
    "invert": _invert("model", "face", "sigmas"),
    "invert two": _invert("model", "two", "sigmas"),
    "invert other": _invert("model", "other face", "sigmas"),
    "short": _scheduler("model", 2),
    "invert short": _invert("model", "two", "short"),
    "mouth": node("HSpaceLoadDirections", file="hspace/mouth.safetensors"),
    "face state": _pullback("model", "invert", k=1, sigma=20.0),
    "embedder": node("HSpaceLoadFaceEmbedder"),
    "asyrp": node("HSpaceLoadTrained", file="hspace/smile.safetensors"),
    "tuned": node("HSpaceLoadFineTuned", file="hspace/red hair.safetensors"),
    "rectifier": node("HSpaceLoadRectifier", file="hspace/reconstruction.safetensors"),
    "rectifier edit": node("HSpaceLoadRectifier", file="hspace/smile.safetensors"),
    "noise": node("RandomNoise", noise_seed=3),
    "no noise": node("DisableNoise"),
    "euler": node("KSamplerSelect", sampler_name="euler"),
    "ancestral": node("KSamplerSelect", sampler_name="euler_ancestral"),
    # A photograph larger than the model's pictures, a region and the five dots of a face in it.
    "wide": node("HSpaceTestPicture", case="noise", width=160, height=120),
    "wide black": node("SolidMask", value=0.0, width=160, height=120),
    "wide mask": node("MaskComposite", destination=["wide black", 0], source=["white", 0], x=60, y=40, operation="add"),
    **_dots("dots", (50, 40), (90, 44), (70, 60), (54, 80), (84, 84)),
    "fitted": node("HSpaceFitPhoto", image=["wide", 0], mask=["wide mask", 0], framing="region", context=2.0, size=32),
    "fitted negative": node("ImageInvert", image=["fitted", 0]),
    # A small U-Net with latents of 8 pixels and prompts.
    "tiny": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0),
    "tiny vae": node("HSpaceTestVAE", network="tiny"),
    "picture": node("HSpaceTestPicture", case="noise", width=64, height=64),
    "negated": node("ImageInvert", image=["picture", 0]),
    "pictures": node("ImageBatch", image1=["picture", 0], image2=["negated", 0]),
    "tiny sigmas": _scheduler("tiny", 3),
    "tiny encoded": node("VAEEncode", pixels=["picture", 0], vae=["tiny vae", 0]),
    "tiny latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "tiny invert": _invert("tiny", "pictures", "tiny sigmas", positive=["tiny", 1], vae=["tiny vae", 0]),
    "tiny one": _invert("tiny", "picture", "tiny sigmas", positive=["tiny", 1], vae=["tiny vae", 0]),
    "white": node("SolidMask", value=1.0, width=24, height=32),
    "black": node("SolidMask", value=0.0, width=64, height=64),
    "tiny mask": node("MaskComposite", destination=["black", 0], source=["white", 0], x=8, y=16, operation="add"),
    # A network of 16 pixels, which Bench.small makes.
    "grain": node("HSpaceTestPicture", case="noise", width=16, height=16),
    "other grain": node("ImageInvert", image=["grain", 0]),
    "grains": node("ImageBatch", image1=["grain", 0], image2=["other grain", 0]),
    "small sigmas": _scheduler("small"),
    "small invert": _invert("small", "grain", "small sigmas"),
    "small two": _invert("small", "grains", "small sigmas"),
    "small other": _invert("small", "other grain", "small sigmas"),
    "small exact": _invert("small", "grain", "small sigmas", method="edict", iterations=3),
    "small white": node("SolidMask", value=1.0, width=8, height=8),
    "small black": node("SolidMask", value=0.0, width=16, height=16),
    "small mask": node(
        "MaskComposite", destination=["small black", 0], source=["small white", 0], x=4, y=4, operation="add"
    ),
    "small directions": discover(
        ("small mask", 0),
        model=["small", 0],
        trajectory=["small invert", 0],
        k=3,
        mode="post",
        rank=2,
        sigma=1.0,
        iterations=1,
    ),
    "small basis": node(
        "HSpaceRegionBasis",
        model=["small", 0],
        trajectory=["small invert", 0],
        mask=["small mask", 0],
        max_k=3,
        max_rank=6,
        sigma=1.0,
        iterations=1,
    ),
    "small state": _pullback("small", "small invert", k=2, sigma=2.0),
    "small steered": node(
        "HSpaceSteer",
        model=["small", 0],
        directions=["small directions", 0],
        strength=5.0,
        direction=1,
        sigma_start=0.0,
        sigma_end=0.1,
    ),
    "four": node("RepeatLatentBatch", samples=["rows", 0], amount=2),
    "pair": node("HSpaceTestPair", network="sd15", targets=1),
    "rows": node("HSpacePairLatent", latent=["tiny latent", 0], rows=2),
    "friendly": edit_friendly("picture", "tiny sigmas", "tiny", positive=["tiny", 1], vae=["tiny vae", 0]),
    "red": node("EmptyImage", width=64, height=64, batch_size=1, color=0xFF0000),
    **_halves("tiny", ["tiny", 1], "half"),
    **_halves("tiny", ["tiny", 2], "other half"),
    # The embedded model with prompts.
    "text": node("HSpaceLoadFaceTextModel"),
    "text words": node("CLIPTextEncode", clip=["text", 1], text="a face"),
    # A checkpoint with a text tower.
    "checkpoint": node("HSpaceTestCheckpoint", family="sd15"),
    "words": node("CLIPTextEncode", clip=["checkpoint", 1], text="red hair"),
    "empty": node("CLIPTextEncode", clip=["checkpoint", 1], text=""),
    "concept": node("HSpaceEditConcept", conditioning=["words", 0], scale=5.0, threshold=0.5, reverse=False),
    # Small LoRAs and the trajectories under them.
    **{
        name: entry
        for one, picture in (("first", "picture"), ("second", "negated"))
        for name, entry in {
            f"lora {one}": node(
                "HSpaceFitImageLora",
                model=["tiny", 0],
                image=[picture, 0],
                positive=["tiny", 1],
                vae=["tiny vae", 0],
                steps=3,
                rank=2,
                lr=0.01,
                seed=0,
            ),
            f"with {one}": node(
                "LoraModelLoader", model=["tiny", 0], lora=[f"lora {one}", 0], strength_model=1.0, bypass=False
            ),
            f"invert {one}": _invert(f"with {one}", picture, "tiny sigmas", positive=["tiny", 1], vae=["tiny vae", 0]),
        }.items()
    },
    "tiny negated": _invert("tiny", "negated", "tiny sigmas", positive=["tiny", 1], vae=["tiny vae", 0]),
    # Semantic codes.
    "diffae": node("HSpaceLoadFaceDiffAE", variant="DiffAE (one code)"),
    "hdae": node("HSpaceLoadFaceDiffAE", variant="HDAE (a code a level)"),
    "code": node("HSpaceEncodeCode", model=["diffae", 0], image=["face", 0]),
    "levels": node("HSpaceEncodeCode", model=["hdae", 0], image=["face", 0]),
    "other levels": node("HSpaceEncodeCode", model=["hdae", 0], image=["other face", 0]),
    "with": _many(20, 3, glasses=True),
    "without": _many(20, 4),
    "codes": node("HSpaceEncodeCode", model=["diffae", 0], image=["with", 0]),
    "other codes": node("HSpaceEncodeCode", model=["diffae", 0], image=["without", 0]),
    "mapper": node("HSpaceLoadDeltaMapper", file="hspace/diffae.safetensors"),
    "pada": node("HSpaceLoadPada", file="hspace/diffae.safetensors"),
    "latent": node("VAEEncode", pixels=["face", 0], vae=["model", 1]),
    "other latent": node("VAEEncode", pixels=["other face", 0], vae=["model", 1]),
}


class Bench:
    """The world in a host, and nodes called on it.

    Args:
        executor: of the host.
    """

    def __init__(self, executor: Any):
        self.executor = executor
        self._outputs: dict[str, tuple[Any, ...]] = {}
        self._facts: dict[tuple, Any] = {}

    def get(self, link: Link) -> Any:
        """An object of the world, made once."""
        if link.name not in self._outputs:
            entry = WORLD.get(link.name)
            self._outputs[link.name] = (
                self.small() if entry is None else self.call(entry["class_type"], _linked(entry["inputs"]))
            )
        return self._outputs[link.name][link.output]

    def small(self) -> tuple[Any, Any]:
        """A MODEL of 16 pixels with random weights, and what it takes for CONDITIONING."""
        part = self.executor.module
        with torch.inference_mode(False):
            torch.manual_seed(1)
            networks, vp = part("core.networks.ddpm"), part("core.networks.vp")
            net = networks.DDPMUNet(networks.DDPMConfig(3, 3, (32,), 1, (True,))).eval().requires_grad_(False)
            net.conv_out.weight.mul_(2)
            host = part("nodes.host.model.pixel_model")
            return host.make_model(vp.VPDenoiser(net, part("core.schedule").Schedule())), host.no_conditioning()

    def call(self, kind: str, inputs: dict[str, Any]) -> tuple[Any, ...]:
        """One node; what it raises comes out."""
        given = {name: self.get(value) if isinstance(value, Link) else value for name, value in inputs.items()}
        if kind == "HSpaceGlobalDirections":  # takes lists
            given = {name: [value] for name, value in given.items()}
        return self.executor.call(kind, **given)

    def facts(self, kind: str, inputs: dict[str, Any], look: Look) -> Any:
        """What a node makes of these inputs, seen once: many dials of a node start from the same."""
        key = kind, repr(sorted(inputs.items())), look
        if key not in self._facts:
            self._facts[key] = facts(look(self, self.call(kind, inputs)))
        return self._facts[key]

    def defaults(self, kind: str) -> dict[str, Any]:
        """Every widget of a node at its default."""
        return {i.id: neutral(i) for i in widgets(self.executor, kind) if neutral(i) is not None}


def _linked(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: Link(*value) if isinstance(value, list) else value for name, value in inputs.items()}


def pack_nodes(executor: Any) -> list[str]:
    """Ids of all nodes of the pack."""
    return sorted(name for name in executor.classes if name.startswith("HSpace") and not name.startswith("HSpaceTest"))


def widgets(executor: Any, kind: str) -> list[Any]:
    """Inputs of a node that are no sockets."""
    known = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    return [i for i in executor.classes[kind].define_schema().inputs if i.get_io_type() in known]


def neutral(declared: Any) -> Any:
    """Default of a widget."""
    default, options = getattr(declared, "default", None), getattr(declared, "options", None)
    return options[0] if default is None and options else default


def facts(value: Any) -> Any:
    """Something to compare: contents of tensors, numbers and texts, without times.

    Raises:
        TypeError: an object that nothing is known about; it needs a ``look`` of its own.
    """
    if isinstance(value, torch.Tensor):
        return (
            str(value.dtype),
            tuple(value.shape),
            hashlib.sha256(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()).hexdigest(),
        )
    if isinstance(value, torch.nn.Module):
        return type(value).__name__, facts(dict(value.state_dict()))
    if isinstance(value, dict):
        return {name: facts(part) for name, part in value.items() if name != "seconds"}
    if isinstance(value, (list, tuple)):
        return [facts(part) for part in value]
    if isinstance(value, str):
        return _SECONDS.sub("", value)
    if value is None or isinstance(value, (int, float)):
        return value
    raise TypeError(f"no way to compare a {type(value).__name__}")


Look = Callable[[Bench, tuple[Any, ...]], Any]
