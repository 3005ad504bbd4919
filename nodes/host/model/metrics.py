"""Networks that measure, from files of the user, on the host's device."""

from __future__ import annotations

import comfy.model_management

from ....core.faces.regressor import load_regressor
from ....core.faces.structure import FaceFeatures
from ....core.files.dino import load_dino
from ....core.files.lpips import load_lpips
from ....core.measure.lpips import LPIPS
from ....core.measure.structure import Features
from .. import paths

FACE = "face world"
OFF = "off"


def structure_features(choice: str) -> Features | None:
    """What sees the structure, None for off: the face world's regressor, or DINO from ``models/hspace_metrics``.

    Raises:
        ValueError: there is no such file, or it is no DINO.
    """
    if choice == OFF:
        return None
    if choice == FACE:
        return FaceFeatures(load_regressor(paths.WEIGHTS / paths.REGRESSOR))
    return _placed(load_dino(paths.metric_path(choice)))


def perceptual(choice: str) -> LPIPS | None:
    """LPIPS from ``models/hspace_metrics``, None for off.

    Raises:
        ValueError: there is no such file, or it is no LPIPS.
    """
    return None if choice == OFF else _placed(load_lpips(paths.metric_path(choice)))


def _placed(net):
    """On the device of models, with room made for it; it is dropped with the node's run."""
    device = comfy.model_management.get_torch_device()
    comfy.model_management.free_memory(sum(p.numel() * p.element_size() for p in net.parameters()) + 2**29, device)
    return net.to(device)
