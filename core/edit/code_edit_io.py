"""Files of what edits codes, delta mappers (arXiv 2303.06285) and PADA (arXiv 2303.11086), and what travels on their sockets.

``HSPACE_DELTAMAPPER`` and ``HSPACE_PADA`` carry a dict: ``format`` ("hspace.delta_mapper", "hspace.pada"), ``version`` 1, ``shape`` of a
code (a list), ``embedding`` and ``width`` of the network, ``fingerprint`` of the autoencoder, ``space`` (the image-text space), ``label``,
``extra``, and ``tensors`` by name, float32: ``net.*``, and ``mean`` and ``std`` `[d]` of the codes. A file holds the same.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..codes import CodeSpace
from ..networks.delta_mapper import DeltaMapper
from ..networks.pada import PADA
from ..own_file import filled, read_own, write_own

VERSION, MAX_BYTES = 1, 2**28
MAPPER, AGEING = "hspace.delta_mapper", "hspace.pada"
_NETS: dict[str, type[DeltaMapper | PADA]] = {MAPPER: DeltaMapper, AGEING: PADA}
_FROM = {MAPPER: "Train Delta Mapper or Load Delta Mapper", AGEING: "Train PADA or Load PADA"}
_FINGERPRINT = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True)
class TrainedCodeEdit:
    """A network that changes normalised codes, and what it was trained for.

    Attributes:
        net: a :class:`DeltaMapper` or :class:`PADA`.
        space: of the codes, with statistics.
        embedder: names the image-text space.
        label: for people.
        extra: figures of the training.
    """

    net: Any
    space: CodeSpace
    embedder: str
    label: str = ""
    extra: dict = field(default_factory=dict)

    def check(self, code: Tensor, space: CodeSpace) -> Tensor:
        """``code`` if it is of the autoencoder that this was trained for.

        Raises:
            ValueError: it is another's.
        """
        if (space.shape, space.fingerprint) != (self.space.shape, self.space.fingerprint):
            raise ValueError(
                f"this was trained for codes {list(self.space.shape)} of model {self.space.fingerprint}, the code connected is "
                f"{list(space.shape)} of model {space.fingerprint}; encode with that model, or train for this one"
            )
        return self.space.check(code)

    def check_embedder(self, name: str) -> None:
        """Refuse the embedder of another space.

        Raises:
            ValueError: it is.
        """
        if name != self.embedder:
            raise ValueError(f"this was trained with the embedder {self.embedder!r}, the one connected is {name!r}; connect that one")

    def with_embeddings(self, embedding: Tensor) -> Tensor:
        """``embedding`` `[b e]`, or `[e]` as `[1 e]`, if it is of this width.

        Raises:
            ValueError: it is not.
        """
        rows = embedding.reshape(-1, embedding.shape[-1]).float()
        if rows.shape[1] != self.net.embedding:
            raise ValueError(
                f"embeddings must have {self.net.embedding} entries, got {rows.shape[1]}; connect the embedder of the training"
            )
        return rows


def code_edit_to_payload(trained: TrainedCodeEdit) -> dict[str, Any]:
    """What goes onto a socket, see above."""
    kind = next(form for form, net in _NETS.items() if isinstance(trained.net, net))
    space, net = trained.space, trained.net
    if space.mean is None or space.std is None:
        raise ValueError("a trained edit of codes needs their statistics")
    state = {f"net.{k}": v for k, v in net.state_dict().items()} | {"mean": space.mean, "std": space.std}
    return {
        "format": kind, "version": VERSION, "shape": list(net.shape), "embedding": net.embedding, "width": net.width,
        "fingerprint": space.fingerprint, "space": trained.embedder, "label": trained.label, "extra": trained.extra,
        "tensors": {k: v.detach().float().cpu() for k, v in state.items()},
    }  # fmt: skip


def code_edit_from_payload(payload: object, kind: str) -> TrainedCodeEdit:
    """The trained edit of a kind that came in on a socket.

    Raises:
        ValueError: anything else, or damaged.
    """
    if not isinstance(payload, dict) or payload.get("format") != kind or payload.get("version") != VERSION:
        got = payload.get("format") if isinstance(payload, dict) else type(payload).__name__
        raise ValueError(f"expected {kind}, version {VERSION}, got {ascii(got)[:40]}; connect {_FROM[kind]}")
    try:
        facts, state = payload, dict(payload["tensors"])
        shape, sides = facts["shape"], [facts["embedding"], facts["width"]]
        good = (
            isinstance(shape, (list, tuple)) and len(shape) in (1, 2) and all(type(v) is int and 1 <= v <= 65536 for v in [*shape, *sides])
            and math.prod(shape) <= 65536 and isinstance(facts["fingerprint"], str) and _FINGERPRINT.fullmatch(facts["fingerprint"])
            and all(isinstance(facts[k], str) and len(facts[k]) <= 300 and facts[k].isprintable() for k in ("space", "label"))
            and isinstance(facts["extra"], dict)
        )  # fmt: skip
        if not good:
            raise ValueError("its metadata is out of range")
        space = CodeSpace(tuple(shape), facts["fingerprint"], state.pop("mean"), state.pop("std"))
        state = {k.removeprefix("net."): v for k, v in state.items()}
        net = filled(lambda: _NETS[kind](tuple(shape), *sides), state)
    except Exception as error:  # missing keys and shapes raise their own kinds
        raise ValueError(f"this is not a usable {kind}: {str(error)[:300]}; train it again, or get it from where it came") from error
    return TrainedCodeEdit(net.requires_grad_(False).eval(), space, facts["space"], facts["label"], facts["extra"])


def save_code_edit(path: Path | str, trained: TrainedCodeEdit, half: bool = True) -> Path:
    """Write it, the network as float16 unless told otherwise. The file appears complete or not at all.

    Raises:
        ValueError: weights that are not finite.
    """
    facts = code_edit_to_payload(trained)
    tensors = facts.pop("tensors")
    return write_own(path, {k: v.half() if half and k.startswith("net.") else v for k, v in tensors.items()}, facts)


def load_code_edit(path: Path | str, kind: str) -> TrainedCodeEdit:
    """Read a file of :func:`save_code_edit`.

    Raises:
        ValueError: not such a file, damaged, or with values that cannot be.
    """
    tensors, facts = read_own(path, kind, VERSION, MAX_BYTES)
    try:
        return code_edit_from_payload({**facts, "tensors": tensors}, kind)
    except ValueError as error:
        raise ValueError(f"{Path(path).name!r}: {error}") from error
