"""The rectifier of High-Fidelity Diffusion-based Image Editing: a hypernetwork.

Hou et al. 2023, arXiv 2312.15707, section 3.

A global encoder sees the clean picture and the current prediction; a branch for every 3x3 convolution of the middle and
the decoder turns its features into a separable offset of that kernel, ``W' = W (1 + K)`` with ``K[o, i, p] = b[p, o]
a[p, i]`` at each of the nine taps p. The paper gives neither layers nor widths; the form follows HyperStyle (Alaluf et
al. 2022, arXiv 2111.15666), which its figure matches, with the step's embedding added, and without the learned mixes
after the outer product: they are most of the parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .step import StepEmbedding

Kernels = dict[str, tuple[Tensor, Tensor]]
"""Name of a convolution -> ``a`` `[s r 9 i]` and ``b`` `[s r 9 o]`: a row for every sample, and the r terms of its
offset."""
_PLACES = re.compile(r"(mid|up|middle_block|output_blocks)\..*(conv1|conv2|in_layers\.2|out_layers\.3)")
TAPS = 9


def targets(net: nn.Module) -> dict[str, nn.Conv2d]:
    """List the 3x3 convolutions inside the residual blocks of a U-Net's middle and decoder.

    Raises:
        ValueError: there are none.
    """
    convolutions = {
        name: part
        for name, part in net.named_modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3) and _PLACES.fullmatch(name)
    }
    if not convolutions:
        raise ValueError(
            f"a {type(net).__name__} has no middle and decoder of residual blocks; a rectifier needs a U-Net"
        )
    return convolutions


class RectifierNet(nn.Module):
    """``rectifier(x0, predicted, sigma)`` -> kernel offsets; all zero before training.

    Args:
        shapes: name of a target -> ``(out, in)`` channels.
        step: embedding of the noise level.
        channels: of the pictures.
        width: of the encoder.
        code: length of the code that the branches see.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        step: StepEmbedding,
        channels: int = 3,
        width: int = 32,
        code: int = 32,
    ):
        super().__init__()
        self.shapes = dict(shapes)
        self.step = step
        self.width = width
        self.code = code
        self.channels = channels
        widths = (2 * channels, width, 2 * width, 2 * width, 4 * width)
        layers = []
        for inp, out in pairwise(widths):
            layers += [nn.Conv2d(inp, out, 3, 2, 1), nn.GroupNorm(8, out), nn.SiLU()]
        self.encoder = nn.Sequential(*layers)
        emb = step.second.weight.shape[0]
        self.film = nn.Linear(emb, 2 * 4 * width)
        # Four by four places are kept apart: where in the picture something is off matters.
        self.summary = nn.Sequential(
            nn.Flatten(), nn.Linear(4 * width * 16, 4 * code), nn.SiLU(), nn.Linear(4 * code, code), nn.SiLU()
        )
        self.a = nn.ModuleDict({_key(n): nn.Linear(code, TAPS * i) for n, (_, i) in self.shapes.items()})
        self.b = nn.ModuleDict({_key(n): nn.Linear(code, TAPS * o) for n, (o, _) in self.shapes.items()})
        for branch in self.b.values():
            assert isinstance(branch, nn.Linear)  # noqa: S101 (for the type checker)
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)

    @classmethod
    def of(
        cls, net: nn.Module, levels: Tensor, channels: int = 3, width: int = 32, code: int = 32, seed: int = 0
    ) -> RectifierNet:
        """Build one for a network and the noise levels of its steps; ``seed`` is of the first weights."""
        shapes = {n: (c.out_channels, c.in_channels) for n, c in targets(net).items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(shapes, StepEmbedding.of(net, levels), channels, width, code)

    def forward(self, x0: Tensor, predicted: Tensor, sigma: Tensor) -> Kernels:
        """Predict kernel offsets for ``x0`` and ``predicted`` `[s c h w]` at ``sigma`` `[s]`."""
        features = self.encoder(torch.cat([x0, predicted - x0], 1))
        scale, shift = self.film(F.silu(self.step(sigma)))[:, :, None, None].chunk(2, 1)
        code = self.summary(F.adaptive_avg_pool2d(features * (1 + scale) + shift, 4))
        return {
            name: (
                rearrange(self.a[_key(name)](code), "s (tap i) -> s 1 tap i", tap=TAPS),
                rearrange(self.b[_key(name)](code), "s (tap o) -> s 1 tap o", tap=TAPS),
            )
            for name in self.shapes
        }


def _key(name: str) -> str:
    return name.replace(".", "-")


def own_weight(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Read the kernel of a convolution; hosts whose weights are cast on the way have a way of their own."""
    return conv.weight


@contextmanager
def rectified(
    net: nn.Module, kernels: Kernels, weight_of: Callable[[nn.Conv2d, Tensor], Tensor] = own_weight
) -> Iterator[None]:
    """Make the named convolutions of ``net`` use ``W (1 + K)`` inside, with a kernel of its own for every sample.

    A batch that is a multiple of the samples holds them several times over (both prompts of a guided call, many h of
    one sample).

    Args:
        net: the network.
        kernels: from a :class:`RectifierNet`.
        weight_of: convolution and its input -> kernel as it is used on that input.

    Raises:
        ValueError: a target that the network lacks, or of another shape.
    """
    modules = dict(net.named_modules())
    changed: list[tuple[Any, Any]] = []
    try:
        for name, (a, b) in kernels.items():
            conv = modules.get(name)
            if not isinstance(conv, nn.Conv2d) or (conv.in_channels, conv.out_channels) != (a.shape[3], b.shape[3]):
                raise ValueError(
                    f"this rectifier was made for another network: {name!r} is missing or has other channels"
                )
            changed.append((conv, vars(conv).get("forward")))
            conv.forward = _Conv(conv, a, b, weight_of)
        yield
    finally:
        for conv, before in changed:
            del conv.forward
            if before is not None:  # another pack's
                conv.forward = before


class _Conv:
    """A convolution with an offset of its own for every sample.

    Where the offset is zero the result is the convolution's, bit for bit.
    """

    def __init__(self, conv: nn.Conv2d, a: Tensor, b: Tensor, weight_of: Callable[[nn.Conv2d, Tensor], Tensor]):
        self.conv = conv
        self.a = a
        self.b = b
        self.weight_of = weight_of
        self.plain = conv.forward

    def __call__(self, input: Tensor) -> Tensor:
        conv = self.conv
        x = input
        rows = len(input)
        samples = len(self.a)
        if rows % samples:
            raise ValueError(f"the kernels were made for {samples} samples, got {rows}")
        offset = torch.einsum("srpo,srpi->soip", self.b, self.a).reshape(
            samples, conv.out_channels, conv.in_channels, 3, 3
        )
        weight = self.weight_of(conv, x)
        kernels = (weight[None] * offset.to(weight)).flatten(0, 1)
        # Samples come in turn, so that a whole turn goes through the same kernels.
        turns = x.reshape(rows // samples, -1, *x.shape[2:])
        more = F.conv2d(turns, kernels, None, conv.stride, conv.padding, conv.dilation, groups=samples)
        return self.plain(x) + more.reshape(rows, -1, *more.shape[2:])
