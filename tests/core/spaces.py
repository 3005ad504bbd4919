"""Spaces of codes with made-up statistics, and heads in them."""

import math

import torch

from core.codes import CodeSpace
from core.networks.heads import Heads

FINGERPRINT = "0123456789ab"


def space_of(*shape, seed=1):
    g = torch.Generator().manual_seed(seed)
    d = math.prod(shape)
    return CodeSpace(shape, FINGERPRINT, torch.randn(d, generator=g), torch.rand(d, generator=g) + 0.5)


def heads_of(space, k=5, seed=2):
    g = torch.Generator().manual_seed(seed)
    names = tuple("smile Black_Hair glasses young beard tall".split()[:k])
    return Heads(
        names, torch.randn(k, space.size, generator=g), torch.randn(k, generator=g), space, ("classifier",) * k
    )


SPACES = [space_of(16), space_of(3, 8)]
