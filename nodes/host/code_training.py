"""Training on the codes and embeddings of pictures alone: what goes in, and its run."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ...core.files.code_edits import TrainedCodeEdit, save_code_edit
from ...core.networks.deltaedit import DeltaMapper
from ...core.networks.pada import PADA
from ...core.train.code_readings import EncodedPictures, measured
from ...core.train.run import Run
from .model.codes import codes_from_conditioning
from .model.embeddings import embedded
from .training import NodeSession


def encoded_pictures(code: list, embedder, image: Tensor) -> EncodedPictures:
    """Codes and embeddings of the same pictures, which autograd may save.

    Raises:
        ValueError: another number of codes than of pictures.
    """
    codes, space = codes_from_conditioning(code, "code")
    if len(codes) != len(image):
        raise ValueError(f"code holds {len(codes)} pictures, image {len(image)}; connect the same pictures to both")
    embeddings = embedded(embedder, image)
    with torch.inference_mode(False):
        return EncodedPictures(codes.clone(), space, embeddings.clone())


class CodeSession(NodeSession):
    """A run on codes, whose best state is written if it breaks off.

    Args:
        label: what is trained, for people.
        kind: of the file, one of :mod:`nodes.host.paths`.
        pictures: that it is trained on.
        embedder: names the space of their embeddings.
        settings: all else that the result depends on.
    """

    def __init__(self, label: str, kind: str, pictures: EncodedPictures, embedder: str, settings: dict[str, Any]):
        facts = {"codes": pictures.space.fingerprint, "space": embedder, "kind": kind, **settings}
        super().__init__(None, label, torch.cat([pictures.codes.flatten(1), pictures.embeddings], 1), facts)
        self._kind = kind
        self._pictures = pictures
        self._embedder = embedder

    def begin(self, run: Run) -> None:
        """Go on from the state of an earlier run, if there is one that fits."""
        super().begin(run)

        def write_best(best: dict[str, Tensor]):
            net = cast("DeltaMapper | PADA", run.module)
            net.load_state_dict(best)
            space = measured(self._pictures.codes, self._pictures.space)
            trained = TrainedCodeEdit(net, space, self._embedder, self.label)
            return save_code_edit(self.unfinished_path(self._kind), trained)

        self.write_best = write_best
