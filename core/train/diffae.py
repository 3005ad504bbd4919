"""Training of diffusion autoencoders (DiffAE, arXiv 2111.15640, section 3 and table 6; HDAE, arXiv 2304.11829).

Encoder and U-Net learn together from the denoising loss alone. In a small network hardly any of its gradient reaches
the code, so two things can be added: v-prediction (arXiv 2202.00512), and a decoder that draws a small picture from the
code alone, whose weight fades and which is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.diffae import DiffAENet
from ..networks.diffae_config import DiffAEConfig, Injection, Reading
from ..networks.vp import Prediction
from ..schedule import Schedule
from .noised import noised
from .run import Optimiser, Run, Session

SCHEDULE = Schedule("linear")
BASE = {64: (64, (1, 2, 4, 8)), 128: (128, (1, 1, 2, 3, 4)), 256: (128, (1, 1, 2, 2, 4, 4))}
"""Released U-Nets by the side of what they see: width, and its multiple at every level."""
BATCH = {64: 128, 128: 128, 256: 64}
IMAGES = {64: 72_000_000, 128: 130_000_000, 256: 200_000_000}
_DROPOUT = 104_729
"""Keeps the numbers of dropout apart from those of the data."""


@dataclass(frozen=True)
class Shape:
    """What is free in a network for pictures of one size; the defaults are the released ones.

    Attributes:
        size: side of a picture in pixels.
        channels: of the U-Net, finest level first; empty: those of :data:`BASE`.
        hierarchical: one code a level (HDAE) instead of one for all (DiffAE).
        reading, injection, patch, blocks, emb, code: see :class:`core.networks.diffae.DiffAEConfig`.
        attention: sides of the maps on which it attends.
    """

    size: int
    channels: tuple[int, ...] = ()
    hierarchical: bool = False
    reading: Reading = "E"
    injection: Injection = "both"
    patch: int = 1
    blocks: int = 2
    emb: int = 512
    code: int = 512
    attention: tuple[int, ...] = (16,)

    def config(self) -> DiffAEConfig:
        """Configure the network, its encoder one level deeper than its U-Net.

        It goes down to maps of 4 x 4 as released, where the picture lets it.

        Raises:
            ValueError: levels that do not fit the size, an unknown variant, or channels that cannot be grouped.
        """
        side = self.size // max(self.patch, 1)
        channels = self.channels
        if self.patch < 1 or self.size % self.patch:
            raise ValueError(
                f"patch must divide the size {self.size}, got {self.patch}; 1 is the released one, 2 and 4 are cheaper"
            )
        if not channels:
            if side not in BASE:
                known = ", ".join(map(str, BASE))
                raise ValueError(
                    f"there is no preset for maps of {side} x {side} ({known} have one); give the channels of every"
                    " level"
                )
            channels = tuple(BASE[side][0] * times for times in BASE[side][1])
        if min(channels) < 1 or side % 2 ** (len(channels) - 1) or side >> (len(channels) - 1) < 2:
            raise ValueError(
                f"{len(channels)} levels do not fit maps of {side} x {side}; give fewer channels, or a smaller patch"
            )
        joined = [
            a + b for a, b in zip(channels, (*channels[1:], channels[-1]), strict=True)
        ]  # with the skip connections
        if any(c > 32 and c % 32 for c in (*channels, *joined)):
            raise ValueError(
                f"channels must be multiples of 32 (groups of its normalisation), got {', '.join(map(str, channels))}"
            )
        if self.reading != "E" and not self.hierarchical:
            raise ValueError(
                f"reading {self.reading!r} is of a hierarchical autoencoder (HDAE); a DiffAE has one code, read at"
                " the end"
            )
        deeper = side % 2 ** len(channels) == 0 and side >> len(channels) >= 4
        encoder = (*channels, channels[-1]) if deeper else channels
        attends = tuple(side >> level in self.attention for level in range(len(encoder)))
        return DiffAEConfig(
            channels,
            encoder,
            attends[: len(channels)],
            attends,
            self.blocks,
            self.emb,
            self.code,
            levels=len(channels) if self.hierarchical else 0,
            reading=self.reading,
            injection=self.injection,
            patch=self.patch,
        )


class Sketch(nn.Sequential):
    """Code `[b ...]` -> picture `[b 3 side side]`; ``side`` is a multiple of 16."""

    def __init__(self, config: DiffAEConfig, side: int = 64):
        code = math.prod(config.code_shape)
        fold = side // 16
        layers: list[nn.Module] = [
            nn.Flatten(),
            nn.Linear(code, 256 * 16),
            nn.SiLU(),
            nn.Unflatten(1, (256, 4, 4)),
        ]
        for inp, out in ((256, 128), (128, 96)):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(inp, out, 3, padding=1),
                nn.SiLU(),
            ]
        layers += [
            nn.Conv2d(96, 3 * fold**2, 3, padding=1),
            nn.PixelShuffle(fold),
        ]
        super().__init__(*layers)


class Learner(nn.Module):
    """An autoencoder in training.

    Args:
        config: of the autoencoder.
        sketch: side of the picture that is drawn from the code alone; 0 for none.
        dropout: in the U-Net's blocks.
    """

    def __init__(self, config: DiffAEConfig, sketch: int = 0, dropout: float = 0.0):
        super().__init__()
        self.net = DiffAENet(config, dropout)
        self.sketch: nn.Module = Sketch(config, sketch) if sketch else nn.Identity()

    def forward(self, x: Tensor, noisy: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the network's output `[b c h w]`, the sketch and the code.

        The output is on ``noisy`` at ``t`` `[b]` with the code of ``x``; without a sketch the code stands in its place.
        """
        code = self.net.encoder(x)
        return self.net(noisy, t, code), self.sketch(code), code


def autoencoder_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select those of a learner's weights that are kept."""
    return {k.removeprefix("net."): v for k, v in weights.items() if k.startswith("net.")}


class Samples(NamedTuple):
    """Pictures `[b 3 h w]` in -1..1, their noise and their steps `[b]`."""

    x: Tensor
    noise: Tensor
    t: Tensor


@dataclass
class Stream:
    """Training samples without end, pass after pass over the pictures, each in an order of its own.

    What stands at a place follows from seed and place alone: not from the batch, the process or where the run was
    resumed.

    Attributes:
        pictures: their numbers -> `[b 3 h w]` in -1..1.
        count: how many there are.
        seed: of order, steps, noise and flips.
        flip: how often one is mirrored.
    """

    pictures: Callable[[Sequence[int]], Tensor]
    count: int
    seed: int = 0
    flip: float = 0.5

    def __post_init__(self) -> None:
        self._orders: dict[int, list[int]] = {}

    def __call__(self, places: range) -> Samples:
        """Collect the samples at ``places``."""
        x = self.pictures([self._order(p // self.count)[p % self.count] for p in places])
        rows = []
        noise = []
        t = []
        for row, place in zip(x, places, strict=True):
            g = torch.Generator().manual_seed(self.seed * 1_000_003 + place)
            mirrored, share = torch.rand(2, generator=g).tolist()
            step = int(share * SCHEDULE.steps)
            rows.append(row.flip(-1) if mirrored < self.flip else row)
            t.append(min(step, SCHEDULE.steps - 1))
            noise.append(torch.randn(row.shape, generator=g))
        return Samples(torch.stack(rows), torch.stack(noise), torch.tensor(t))

    def _order(self, number: int) -> list[int]:
        if number not in self._orders:
            g = torch.Generator().manual_seed(self.seed * 7919 + number)
            # Batches reach back into the pass before at most.
            self._orders = {k: v for k, v in self._orders.items() if k == number - 1}
            self._orders[number] = torch.randperm(self.count, generator=g).tolist()
        return self._orders[number]


@dataclass(frozen=True)
class Training:
    """How it is trained; the defaults are the paper's.

    Attributes:
        steps: of the whole run.
        batch: samples of one step in one process.
        lr: learning rate, reached after ``warm_up`` steps.
        prediction: what the network learns to say.
        sketch: weight of the picture drawn from the code alone; falls to a tenth of it.
        seed: of dropout.
        precision: of the network's arithmetic.
        rank, ranks: this process, and how many there are.
    """

    steps: int
    batch: int
    lr: float = 1e-4
    warm_up: int = 0
    prediction: Prediction = "eps"
    sketch: float = 0.0
    seed: int = 0
    precision: torch.dtype = torch.float32
    rank: int = 0
    ranks: int = 1

    def places(self, step: int) -> range:
        """List the places of this process's samples in the stream."""
        first = (step * self.ranks + self.rank) * self.batch
        return range(first, first + self.batch)

    def rate(self, step: int, _total: int) -> float:
        """Compute the share of the learning rate at a step, rising over ``warm_up`` steps."""
        return min(1.0, (step + 1) / max(self.warm_up, 1))

    def sketch_weight(self, step: int) -> float:
        """Weigh the sketch, along half a cosine over the whole run."""
        return self.sketch * (0.1 + 0.45 * (1 + math.cos(math.pi * step / self.steps)))


def new_run(net: Learner, how: Training, ema: float = 0.9999, session: Session | None = None) -> Run:
    """Begin a run with Adam without decay (DiffAE, appendix A)."""
    optimiser = Optimiser(how.lr, "adamw", foreach=True, options={"betas": (0.9, 0.999), "weight_decay": 0.0})
    return Run(net, optimiser, how.steps, session, ema=ema)


def loss_of(net: Learner, samples: Samples, prediction: Prediction = "eps", sketch: float = 0.0) -> Tensor:
    """Compute the mean square error of the output, plus ``sketch`` times that of the picture from the code alone."""
    noisy, target = noised(SCHEDULE, samples.x, samples.noise, samples.t, prediction)
    out, drawn, _ = net(samples.x, noisy, samples.t)
    loss = F.mse_loss(out.float(), target)
    if sketch:
        small = F.interpolate(samples.x, drawn.shape[-2:], mode="area")
        loss = loss + sketch * F.mse_loss(drawn.float(), small)
    return loss


def train_diffae(net: Learner, run: Run, stream: Stream, how: Training) -> None:
    """Train from where ``run`` stands.

    Raises:
        RuntimeError: the loss is not finite.
    """
    device = next(net.parameters()).device
    net.train()
    with ThreadPoolExecutor(1) as reader:  # pictures of the next step are read during this one
        coming = [reader.submit(stream, how.places(run.i))]

        def loss(_: torch.Generator) -> Tensor:
            samples = Samples(*(v.to(device, non_blocking=True) for v in coming.pop().result()))
            if run.i + 1 < how.steps:
                coming.append(reader.submit(stream, how.places(run.i + 1)))
            torch.manual_seed(how.seed * 1_000_003 + _DROPOUT * how.rank + run.i)
            with torch.autocast(device.type, how.precision, enabled=how.precision != torch.float32):
                return loss_of(net, samples, how.prediction, how.sketch_weight(run.i))

        run.train(loss, rate=how.rate)
