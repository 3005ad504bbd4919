"""A digest of a MODEL: the weights it was loaded with and every weight patch on top (LoRA makes another model)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...core.networks.vp import state_fingerprint
from .model import PixelUNet

_BASES: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
_SAMPLES = 64


def model_fingerprint(model) -> str:
    """Twelve hex digits, with patches on top "+" and eight more: whether they have been merged, are cast on the fly, or wait."""
    base = _base(model)
    if not model.patches:
        return base
    digest = hashlib.sha256()
    for key in sorted(model.patches):
        digest.update(key.encode())
        for patch in model.patches[key]:
            for part in _parts(patch):
                digest.update(part)
    return f"{base}+{digest.hexdigest()[:8]}"


def _base(model) -> str:
    net = model.model.diffusion_model
    if isinstance(net, PixelUNet):
        return net.base_fingerprint
    if net not in _BASES:
        prefix = "diffusion_model."
        originals = {k[len(prefix) :]: v.weight for k, v in model.backup.items() if k.startswith(prefix)}
        _BASES[net] = state_fingerprint({**net.state_dict(), **originals})
    return _BASES[net]


def _parts(value: Any) -> Iterator[bytes]:
    """Numbers, names and a sample of the tensors inside a patch, whatever its shape."""
    if isinstance(value, Tensor):
        flat = value.detach().reshape(-1)
        yield str(tuple(value.shape)).encode()
        yield flat[:: max(1, flat.numel() // _SAMPLES)].to("cpu", torch.float32).numpy().tobytes()
    elif isinstance(value, (str, int, float)):
        yield str(value).encode()
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _parts(part)
    elif hasattr(value, "weights"):
        yield from _parts(value.weights)
