"""What fails in a pass through a network, in words that help."""

from __future__ import annotations

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out, by the words of the allocators there are."""
    text = str(error).lower()
    said = ("out of memory", "can't allocate memory", "not enough memory")  # of CUDA, Linux and Windows
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in text for words in said)


def explained(error: RuntimeError, vectors: int) -> RuntimeError:
    """Give an error that says what to do after a pass of so many vectors; the same one if there is nothing to add."""
    if is_out_of_memory(error):
        kind = (
            type(error) if isinstance(error, torch.cuda.OutOfMemoryError) else RuntimeError
        )  # the host frees models for its own kind
        return kind(
            f"out of memory with {vectors} Jacobian vector{'s' * (vectors > 1)} at a time; use a smaller picture or k,"
            " or free GPU memory"
        )
    if isinstance(error, NotImplementedError):
        return RuntimeError(
            f"a kernel of this model has no derivative ({str(error).splitlines()[0][:160]}); load it unquantised, with"
            " plain attention"
        )
    return error
