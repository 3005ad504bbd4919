"""Compiled networks: stock TorchCompileModel keeps whatever was on the MODEL in its first run, and does not look
again.
"""

from __future__ import annotations

from comfy.patcher_extension import WrappersMP

from ..types import Model

_KEY = "torch.compile"
_OPTIONS = "torch_compile_kwargs"


def is_compiled(model: Model) -> bool:
    """Whether TorchCompileModel, or a node that does as it does, is on a MODEL."""
    return bool(model.get_wrappers(WrappersMP.APPLY_MODEL, _KEY))


def without_compile(model: Model):
    """A clone of MODEL whose network runs as it is; the MODEL itself if nothing has compiled it."""
    if not is_compiled(model):
        return model
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, _KEY)
    clone.model_options.pop(_OPTIONS, None)
    return clone


def check_uncompiled(model: Model, node: str) -> None:
    """Refuse a MODEL whose compiled network would freeze an edit that changes from step to step, or leave it out.

    Args:
        model: MODEL.
        node: ours, whose edit is on it.

    Raises:
        ValueError: it is compiled.
    """
    if is_compiled(model):
        raise ValueError(
            f"TorchCompileModel is on this MODEL, which keeps the patches of the network's first run, so that {node}"
            " would stand still or be left out; take TorchCompileModel off this MODEL"
        )
