"""Results that are kept from run to run by what they depend on, as long as the MODEL lives that they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from ...core.trajectory import Trajectory

T = TypeVar("T")
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class _Entry(Generic[T]):
    key: str
    beside: tuple[ref, ...]
    value: T

    def is_of(self, key: str, beside: Sequence[Any]) -> bool:
        """Say whether it was made by this key of these very objects."""
        if self.key != key or len(self.beside) != len(beside):
            return False
        return all(to() is one for to, one in zip(self.beside, beside, strict=True))


class Kept(Generic[T]):
    """The last few results of every MODEL.

    Args:
        most: results of one MODEL.
    """

    def __init__(self, most: int):
        self._most = most
        self._of: WeakKeyDictionary[Any, list[_Entry[T]]] = WeakKeyDictionary()

    def get(self, model: Any, key: str | None, make: Callable[[], T], *beside: Any) -> T:
        """Give what was made before of the very same objects by the same ``key``, or make it.

        Args:
            model: MODEL, with all patches that it carries.
            key: of :func:`content_key`; None makes it anew.
            make: makes it.
            beside: other objects that it depends on, such as a VAE.
        """
        if key is None:
            return make()
        entries = self._of.setdefault(model, [])
        for entry in entries:
            if entry.is_of(key, beside):
                entries.remove(entry)
                entries.append(entry)
                return entry.value
        value = make()
        entries.append(_Entry(key, tuple(ref(one) for one in beside), value))
        del entries[: -self._most]
        return value


def content_key(*values: Any) -> str | None:
    """Digest tensors, numbers and texts, also in lists and dicts; None if there is anything else among them."""
    digest = hashlib.sha256()
    try:
        for part in _parts(values):
            digest.update(part)
    except TypeError:
        return None
    return digest.hexdigest()


def path_key(path: Trajectory) -> str | None:
    """Digest what every rendering of a trajectory depends on beside the MODEL; None as of :func:`content_key`."""
    return content_key(path.fingerprint, path.sigmas, path.states, path.reconstruction, path.moved, path.prompts)


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, _PLAIN):
        yield f"{type(value).__name__}:{value!r};".encode()
    elif isinstance(value, Mapping):
        yield f"{len(value)}{{".encode()
        for name, one in value.items():
            yield from _parts(name)
            yield from _parts(one)
    elif isinstance(value, Sequence):
        yield f"{len(value)}[".encode()
        for one in value:
            yield from _parts(one)
    else:
        raise TypeError(type(value).__name__)
