"""Small transformers of the host, and what is measured on the pack's cut of them: by the tests and by a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LEVEL = 0.6
NETWORKS = {
    "Flux.1": "Flux",
    "Flux.2": "Flux",
    "Chroma": "Chroma",
    "SD 3": "OpenAISignatureMMDITWrapper",
    "Lumina 2": "NextDiT",
    "Z-Image": "NextDiT",
    "Qwen-Image": "QwenImageTransformer2DModel",
    "Wan 2.1": "WanModel",
    "Cosmos-Predict2": "MiniTrainDIT",
    "Anima": "Anima",
    "Ernie": "ErnieImageModel",
    "HiDream": "HiDreamImageTransformer2DModel",
    "Krea 2": "SingleStreamDiT",
    "Ideogram 4": "Ideogram4Transformer2DModel",
}
"""Families of the node ``HSpaceTestTransformer``, and the class of each."""


@dataclass(frozen=True)
class Case:
    """A family with something beside the picture.

    Attributes:
        family: of the test node.
        references: sizes of reference latents in the positive prompt.
        key: under which the prompt holds them.
        size: of the state; None for one of 24 tokens.
        facts: what else the prompt says.
    """

    family: str
    references: tuple[tuple[int, int], ...] = ()
    key: str = "reference_latents"
    size: tuple[int, int] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


_INDEX = {"reference_latents_method": "index"}
_TIME_ZERO = {"reference_latents_method": "index_timestep_zero"}
BESIDE = {
    "Flux.1 with two references": Case("Flux.1", ((8, 8), (4, 12))),
    "Flux.2 with two references": Case("Flux.2", ((4, 4), (2, 6)), facts=_INDEX),
    "Flux.2 with a reference at time zero": Case("Flux.2", ((4, 4),), facts=_TIME_ZERO),
    "Z-Image with a reference": Case("Z-Image", ((8, 8),)),
    "Z-Image without padding": Case("Z-Image", size=(16, 16)),
    "Qwen-Image of odd size": Case("Qwen-Image", size=(11, 9)),
    "Qwen-Image with two references": Case("Qwen-Image", ((8, 8), (4, 12)), facts=_INDEX),
    "Qwen-Image with a reference at time zero": Case("Qwen-Image", ((8, 8),), facts=_TIME_ZERO),
    "Wan 2.1 with a picture in context": Case("Wan 2.1", ((8, 8),), key="context_latents"),
    "Krea 2 with a reference": Case("Krea 2", ((8, 8),)),
}
"""Tokens beside those of the picture: a span in the wrong place would split just as exactly."""
CASES = {**{family: Case(family) for family in NETWORKS}, **BESIDE}


class World:
    """A small transformer with its prompts.

    Args:
        executor: a :class:`devtools.executor.Executor`.
        case: which.

    Attributes:
        x: a noisy state, `[1 c h w]`.
        framed: whether the host's states have an axis of frames.
    """

    def __init__(self, executor: Any, case: Case):
        self.executor = executor
        self.model, positive, self.negative = executor.call("HSpaceTestTransformer", family=case.family, seed=0)
        latents = self.model.get_model_object("latent_format")
        self.channels = latents.latent_channels
        self.framed = latents.latent_dimensions == 3
        cells = (12, 8) if latents.spacial_downscale_ratio == 8 else (6, 4)
        g = torch.Generator().manual_seed(3)
        frames = (1,) if self.framed else ()
        pictures = [torch.randn(1, self.channels, *frames, *size, generator=g) for size in case.references]
        facts = {**case.facts, **({case.key: pictures} if pictures else {})}
        self.positive = [[tensor, {**known, **facts}] for tensor, known in positive]
        self.x = torch.randn(1, self.channels, *(case.size or cells), generator=g)

    def inside(self, work: Callable[[Any], Any], cfg: float = 1.0, rows: int = 1, gradients: bool = True) -> Any:
        """Result of ``work`` with a denoiser."""
        run = self.executor.module("nodes.host.model.run")
        prompts = run.Prompts(self.positive, self.negative if cfg != 1 else [], cfg)
        with torch.inference_mode():
            return run.with_denoiser(self.model, (rows, *self.x.shape[1:]), prompts, work, gradients=gradients)

    @property
    def sigma(self) -> Tensor:
        """The level of the state, `[1]`."""
        return torch.full((1,), LEVEL)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference, as a part of the largest of ``b``."""
    return float((a - b).abs().max() / b.abs().max())


@dataclass(frozen=True)
class SplitFigures:
    """How exact a cut is.

    Attributes:
        layer: where.
        h: shape of the picture's tokens, `[b c h w]`.
        split: difference of both halves from the whole, with every kind of kernels.
        rows: the same of one of two rows that were decoded together.
        in_place: part of the tokens that move the output most at their own place, each moved by itself.
    """

    layer: str
    h: tuple[int, ...]
    split: float
    rows: float
    in_place: float


def split_figures(world: World) -> list[SplitFigures]:
    """They at every layer."""

    def work(denoiser: Any) -> list[SplitFigures]:
        whole = denoiser(world.x, world.sigma)
        return [_split_at(denoiser, world, whole, layer) for layer in denoiser.layers]

    return world.inside(work)


def _split_at(denoiser: Any, world: World, whole: Tensor, layer: str) -> SplitFigures:
    part = denoiser.split(world.x, world.sigma, layer)
    rows, columns = part.h.shape[-2:]
    moved = bumps(part.h)
    change = (part.decode(moved) - whole).abs().mean(1, keepdim=True)
    patch = -(-whole.shape[-2] // rows)
    at = F.avg_pool2d(change, patch, ceil_mode=True).flatten(1).argmax(1)
    two = part.decode(torch.cat([part.h, moved[:1]]))[:1]
    return SplitFigures(
        layer=layer,
        h=tuple(part.h.shape),
        split=max(relative(way(part.h), whole) for way in (part.decode, part.smooth, part.fused)),
        rows=relative(two, whole),
        in_place=float((at == torch.arange(rows * columns)).float().mean()),
    )


def bumps(h: Tensor) -> Tensor:
    """H `[1 c h w]` with one token moved at a time, `[n c h w]`."""
    tokens = h.shape[-2] * h.shape[-1]
    size = 0.3 * h.norm() / h.numel() ** 0.5
    bump = size * torch.randn(tokens, h.shape[1], generator=torch.Generator().manual_seed(1))
    return h + torch.diag_embed(bump.T).movedim(0, 1).unflatten(2, h.shape[-2:])


def derivative_figures(world: World, layer: str = "block.1", share: float = 3e-3) -> tuple[float, float]:
    """Gap between forward and reverse mode, and how far forward mode is from central differences of the host's own
    kernels with a step of so large a part of h.
    """
    engine = world.executor.module("core.discover.jacobian")

    def work(denoiser: Any) -> tuple[float, float]:
        part = denoiser.split(world.x, world.sigma, layer)
        jacobian = engine.DecoderJacobian(part, engine.Route(4, "exact"))
        v = torch.randn(2, jacobian.shape[1], generator=torch.Generator().manual_seed(2))
        step = share * part.h.norm() / v.norm(dim=1).mean()
        ahead, behind = (part.decode(part.h + s * step * v.view(2, *part.h.shape[1:])) for s in (1, -1))
        differences = ((ahead - behind) / (2 * step)).flatten(1)
        return jacobian.check(), float((jacobian.jvp(v) - differences).norm() / differences.norm())

    return world.inside(work)
