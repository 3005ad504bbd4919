"""Passes over the training pictures, in batches, of which each is sampled down a chain of steps (no paper)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .run import Run

_SEED_STRIDE = 1009


class Chain(NamedTuple):
    """A batch of pictures on its way down.

    Attributes:
        epoch: number of the pass.
        rows: numbers of the pictures `[b]`.
        start: the first step that is left; above 0 in a resumed run, which carries the state there.
    """

    epoch: int
    rows: Tensor
    start: int


@dataclass(frozen=True)
class Passes:
    """How often, in what batches and in how many steps each the pictures are seen.

    Attributes:
        pictures: how many there are.
        batch: pictures at a time.
        epochs: passes over all of them.
        steps: optimiser's steps of a chain.
        seed: of the order of the pictures.
    """

    pictures: int
    batch: int
    epochs: int
    steps: int
    seed: int

    @property
    def one_pass(self) -> int:
        """Count the optimiser's steps in which every picture is seen once."""
        return -(-self.pictures // self.batch) * self.steps

    @property
    def total(self) -> int:
        """Count the optimiser's steps of the whole run."""
        return self.epochs * self.one_pass

    def remaining(self, run: Run) -> Iterator[Chain]:
        """Yield the chains that a run has not finished yet, each pass in an order of its own."""
        end = 0
        for epoch in range(self.epochs):
            generator = torch.Generator().manual_seed(self.seed * _SEED_STRIDE + epoch)
            for rows in torch.randperm(self.pictures, generator=generator).split(self.batch):
                end += self.steps
                if run.i < end:
                    yield Chain(epoch, rows, max(0, run.i - (end - self.steps)))
