"""Inputs that nodes of semantic codes share."""

from ....core.codes import CodeSpace
from ....core.files.code_edits import TrainedCodeEdit, code_edit_from_payload
from ....core.files.kinds import Kind
from ....core.foreign import named
from ...host.api import Embedder, io

_CODE = "The code comes from Encode Semantic Code, or from a node that changes codes."
_EMBEDDER = "The embedder that it was trained with: Load Face Embedder, or CLIP Embedder for photographs."


def code_input(name: str = "code"):
    """Declare semantic codes."""
    return io.Conditioning.Input(name, tooltip=_CODE)


def embedder_input():
    """Declare the embedder of a trained edit of codes."""
    return Embedder.Input("embedder", tooltip=_EMBEDDER)


def read_trained(payload, kind: Kind, embedder, name: str) -> TrainedCodeEdit:
    """Read a trained edit of codes that the embedder fits.

    Raises:
        ValueError: it was trained with another embedder; ``name`` is of its input.
    """
    trained = code_edit_from_payload(payload, kind)
    with named(f"{name}, embedder"):
        trained.check_embedder(embedder.space)
    return trained


def parse_levels(text: str) -> list[int] | None:
    """Levels written as '0, 2'; None for an empty text.

    Raises:
        ValueError: anything else.
    """
    try:
        return [int(part) for part in text.split(",")] if text.strip() else None
    except ValueError as error:
        raise ValueError(f"levels are numbers separated by commas, such as '0, 1'; got {text!r:.60}") from error


def check_same(one: CodeSpace, two: CodeSpace) -> None:
    """Refuse codes of two models.

    Raises:
        ValueError: they are.
    """
    if (one.shape, one.fingerprint) != (two.shape, two.fingerprint):
        raise ValueError(
            f"the codes are of two models ({one.fingerprint} and {two.fingerprint}); encode both pictures with the same MODEL"
        )
