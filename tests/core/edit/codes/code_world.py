"""Codes whose pictures an embedder sees linearly, with the age as their first coordinate."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from core.codes import CodeSpace
from core.train.pada import AgeLabels

from ...tiny import Colours

PRINT = "0123456789ab"


EMBEDDING = 6


SEE = torch.randn(EMBEDDING, EMBEDDING, generator=torch.Generator().manual_seed(99)) / 10
"""What the embedder makes of the first coordinates of a normalised code."""


def world(n=400, shape=(12,), seed=0):
    """Codes of ``n`` pictures, of which all but the last coordinates are seen, linearly, by an embedder."""
    g = torch.Generator().manual_seed(seed)
    space = CodeSpace(shape, PRINT)
    code = torch.randn(n, space.size, generator=g)
    space = replace(space, mean=torch.full((space.size,), 0.5), std=torch.linspace(0.5, 2, space.size))
    embedding = F.normalize(code[:, :EMBEDDING] @ SEE + torch.eye(EMBEDDING)[0], dim=1)
    return space.restore(code), space, embedding


class Words(Colours):
    """Old and young, which is the first coordinate of the code."""

    space = "test"

    def embed_text(self, prompts):
        return F.normalize(
            torch.stack([torch.eye(EMBEDDING)[0] + (2 if "old" in p else -2) * SEE[0] for p in prompts]), dim=1
        )


def ages_of(codes, space):
    normal = space.normalise(codes)
    return AgeLabels((normal[:, :1] > 0).float()[:, 0], normal[:, 1:4].clamp(-2, 2) / 2)
