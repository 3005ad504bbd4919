"""Semantic codes on the CONDITIONING socket: a stock sampler decodes them, and this pack's nodes read and change
them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....core.codes import CodeSpace
from ....core.foreign import named

KEY = "hspace_code"
FORMAT = "hspace.code"
VERSION = 1


def codes_to_conditioning(code: Tensor, space: CodeSpace) -> list:
    """CONDITIONING whose tensor `[b l z]` is the code (l = 1 for DiffAE), with what must be known of it beside it.

    Args:
        code: `[b z]` or `[b l z]`, as it came from the encoder (not normalised).
        space: of its autoencoder.
    """
    facts: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": space.fingerprint,
        "shape": list(space.shape),
    }
    for name, statistic in (("mean", space.mean), ("std", space.std)):
        if statistic is not None:
            facts[name] = statistic
    tensor = space.check(code).detach().float().cpu()
    return [[tensor.reshape(len(code), space.levels, space.shape[-1]), {KEY: facts}]]


def codes_from_conditioning(conditioning: object, name: str) -> tuple[Tensor, CodeSpace]:
    """The codes `[b z]` or `[b l z]` of a CONDITIONING and their space; ``name`` is that of the input.

    Raises:
        ValueError: it carries none, several, or damaged ones.
    """
    with named(name):
        return _read(conditioning)


def _read(conditioning: object) -> tuple[Tensor, CodeSpace]:
    if not isinstance(conditioning, list) or not conditioning:
        raise ValueError("expected a semantic code; connect Encode Semantic Code, or another node that gives one")
    if len(conditioning) > 1:
        raise ValueError(
            f"expected one semantic code, got {len(conditioning)} combined conditionings; use Mix Code Levels to join"
            " codes"
        )
    tensor = conditioning[0][0]
    more = conditioning[0][1]
    facts: Any = more.get(KEY) if isinstance(more, dict) else None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError(
            "this CONDITIONING is a text prompt or empty, not a semantic code; connect Encode Semantic Code"
        )
    if facts.get("version") != VERSION:
        raise ValueError(f"the code has version {facts.get('version')!r:.20}, this pack reads {VERSION}; encode again")
    try:
        space = CodeSpace(
            tuple(int(n) for n in facts["shape"]), str(facts["fingerprint"]), facts.get("mean"), facts.get("std")
        )
        code = torch.as_tensor(tensor).float().reshape(len(tensor), *space.shape)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"the semantic code is damaged ({error}); encode the picture again") from error
    return space.check(code), space
