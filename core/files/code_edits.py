"""Files of what edits codes: delta mappers of DeltaEdit (arXiv 2303.06285) and PADA (arXiv 2303.11086).

Both hold ``net.*``, and ``mean`` and ``std`` `[d]` of the codes. Of their facts, ``shape`` is that of one code,
``embedding`` and ``width`` are those of the network, ``fingerprint`` is the autoencoder's, and ``space`` names the
image-text space.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ..codes import CodeSpace
from ..networks.deltaedit import DeltaMapper
from ..networks.pada import PADA
from ..own_file import filled
from ..text import label, labels
from . import kinds
from .exchange import Exchange
from .kinds import Kind


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
        """Return ``code`` if it is of the autoencoder that this was trained for.

        Raises:
            ValueError: it is another's.
        """
        if (space.shape, space.fingerprint) != (self.space.shape, self.space.fingerprint):
            raise ValueError(
                f"this was trained for codes {list(self.space.shape)} of model {self.space.fingerprint}, the code"
                f" connected is {list(space.shape)} of model {space.fingerprint}; encode with that model, or train for"
                " this one"
            )
        return self.space.check(code)

    def check_embedder(self, name: str) -> None:
        """Refuse the embedder of another space.

        Raises:
            ValueError: it is.
        """
        if name != self.embedder:
            raise ValueError(
                f"this was trained with the embedder {self.embedder!r}, the one connected is {name!r}; connect that one"
            )

    def with_embeddings(self, embedding: Tensor) -> Tensor:
        """Return ``embedding`` `[b e]`, or `[e]` as `[1 e]`, if it is of this width.

        Raises:
            ValueError: it is not.
        """
        rows = embedding.reshape(-1, embedding.shape[-1]).float()
        if rows.shape[1] != self.net.embedding:
            raise ValueError(
                f"embeddings must have {self.net.embedding} entries, got {rows.shape[1]}; connect the embedder of the"
                " training"
            )
        return rows

    def one_each(self, embedding: Tensor, code: Tensor, name: str) -> Tensor:
        """Return embeddings `[b e]`, one for each of ``b`` codes, of as many or of one for all.

        Args:
            embedding: see :meth:`with_embeddings`.
            code: `[b z]` or `[b l z]`.
            name: of the input that they come from, for errors.

        Raises:
            ValueError: they are of another width or number.
        """
        rows = self.with_embeddings(embedding).to(code.device)
        if len(rows) not in (1, len(code)):
            raise ValueError(f"{len(code)} codes need one {name}, or as many, got {len(rows)}")
        return rows.expand(len(code), -1)


def save_code_edit(path: Path | str, trained: TrainedCodeEdit, half: bool = True, new: bool = False) -> Path:
    """Write it, the network as float16 unless told otherwise; ``new`` as in :func:`core.atomic_file.write_bytes`.

    Raises:
        ValueError: weights that are not finite.
    """
    return _exchange(_kind(trained)).save(path, trained, half, new)


def load_code_edit(path: Path | str, kind: Kind) -> TrainedCodeEdit:
    """Read a file of :func:`save_code_edit`.

    Args:
        path: of the file.
        kind: :data:`core.files.kinds.DELTAEDIT` or :data:`core.files.kinds.PADA`.

    Raises:
        ValueError: not such a file, damaged, or with values that cannot be.
    """
    return _exchange(kind).load(path)


def code_edit_to_payload(trained: TrainedCodeEdit) -> dict[str, Any]:
    """Make what goes onto an ``HSPACE_DELTAMAPPER`` or ``HSPACE_PADA`` socket."""
    return _exchange(_kind(trained)).to_payload(trained)


def code_edit_from_payload(payload: object, kind: Kind) -> TrainedCodeEdit:
    """Make the trained edit of a kind that came in on a socket.

    Raises:
        ValueError: anything else, or damaged.
    """
    return _exchange(kind).from_payload(payload)


def _exchange(kind: Kind) -> Exchange[TrainedCodeEdit]:
    return Exchange(kind, _facts, _tensors, partial(_trained, kind), partial(_network, kind))


def _kind(trained: TrainedCodeEdit) -> Kind:
    return kinds.PADA if isinstance(trained.net, PADA) else kinds.DELTAEDIT


def _facts(trained: TrainedCodeEdit) -> dict[str, Any]:
    net = trained.net
    return {
        "shape": list(net.shape),
        "embedding": net.embedding,
        "width": net.width,
        "fingerprint": trained.space.fingerprint,
        "space": label(trained.embedder),
        "label": label(trained.label),
        "extra": labels(trained.extra),
    }


def _tensors(trained: TrainedCodeEdit) -> dict[str, Tensor]:
    space = trained.space
    if space.mean is None or space.std is None:
        raise ValueError("a trained edit of codes needs their statistics")
    return {f"net.{k}": v for k, v in trained.net.state_dict().items()} | {"mean": space.mean, "std": space.std}


def _trained(kind: Kind, facts: dict[str, Any], tensors: dict[str, Tensor]) -> TrainedCodeEdit:
    net = _network(kind, facts, tensors).requires_grad_(False).eval()
    space = CodeSpace(tuple(facts["shape"]), facts["fingerprint"], tensors["mean"], tensors["std"])
    return TrainedCodeEdit(net, space, facts["space"], facts["label"], facts["extra"])


def _network(kind: Kind, facts: dict[str, Any], tensors: dict[str, Tensor]) -> DeltaMapper | PADA:
    """Build the network, whose tensors may be without values."""
    network: type[DeltaMapper | PADA] = PADA if kind is kinds.PADA else DeltaMapper
    state = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
    return filled(lambda: network(tuple(facts["shape"]), facts["embedding"], facts["width"]), state)
