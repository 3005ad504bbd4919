"""Files of diffusion autoencoders (arXiv 2111.15640, 2304.11829): ours, and the released ones.

Ours are safetensors with the metadata of :func:`write_autoencoder`: the weights under the released names, and where
there are any ``conds_mean`` and ``conds_std`` `[d]` of the codes and the weights ``latent_net.*`` of the latent
network.

Released are Lightning checkpoints, none of which records its configuration: ``last.ckpt`` of an autoencoder or of its
latent network (``ema_model.*``, which is used, ``model.*``, ``x_T``, and the statistics), that of a classifier (the
statistics and ``classifier.*``; its average ``ema_classifier.*`` is 39 % random start and not used), and ``latent.pkl``
(``conds`` of all pictures and the statistics).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..codes import CodeSpace
from ..networks.diffae import DiffAEConfig, DiffAENet
from ..networks.latent_mlp import LatentConfig, LatentMLP
from ..networks.vp import Prediction, state_fingerprint
from ..schedule import Schedule
from ..text import cleaned
from .diffae_parts import DISTANCE, FAMILY, LATENT, MEAN, STD, WHITENING, outline, read_parts, read_statistics
from .exchange import write
from .kinds import FACE_DIFFAE
from .layouts import FileError, State
from .network import (
    check_finite,
)


@dataclass
class Autoencoder:
    """A diffusion autoencoder and what is known of it.

    Attributes:
        net: U-Net and encoder; frozen, in evaluation mode, on the CPU.
        schedule: noise of its training.
        prediction: what ``net`` returns.
        space: of its codes; without statistics if no file has them.
        latent: denoises normalised codes, to sample new ones; None if the file has none.
        image_size: side in pixels of its training pictures.
        fingerprint: of the weights of ``net`` alone.
        size_known: whether the file says the size, or it is a guess from the number of levels.
    """

    net: DiffAENet
    schedule: Schedule
    prediction: Prediction
    space: CodeSpace
    latent: LatentMLP | None
    image_size: int
    fingerprint: str
    size_known: bool = True

    @property
    def trained_at(self) -> tuple[int, bool]:
        """Give the side in pixels of its training pictures, and whether that is more than a guess."""
        return self.image_size, self.size_known


def load_autoencoder(
    path: str | Path, statistics: str | Path | None = None, dtype: torch.dtype = torch.float32
) -> Autoencoder:
    """Build the network of a file, its configuration read off the shapes.

    Args:
        path: a file of ours, or a released ``last.ckpt`` of an autoencoder or its latent network.
        statistics: another file that has mean and deviation of the codes: of a latent network, of a classifier,
            ``latent.pkl`` or ours.
        dtype: of the weights.

    Raises:
        ValueError: not such a file, damaged, or weights that are missing, unexpected, of another shape or too large for
            ``dtype``.
    """
    path = Path(path)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
    ):  # weights made under the host's inference mode could not be differentiated
        parts = read_parts(path)
        own = parts.own
        pair = read_statistics(statistics) if statistics else parts.statistics
        try:
            if not parts.weights:
                raise FileError(
                    "it has no network, only what goes with one; load the autoencoder's file, and this one as its"
                    " statistics"
                )
            net = _filled(DiffAENet, DiffAEConfig.from_state(parts.weights, own.get("patch", 1)), parts.weights, dtype)
            latent = (
                _filled(LatentMLP, LatentConfig.from_state(parts.latent), parts.latent, dtype) if parts.latent else None
            )
            fingerprint = state_fingerprint(parts.weights)
            mean, std = pair or (None, None)
            size = math.prod(net.config.code_shape)
            if statistics and mean is not None and len(mean) != size:
                raise FileError(
                    f"its codes are {size} numbers, the statistics in {Path(statistics).name} are of {len(mean)}; take"
                    " those of this model"
                )
            space = CodeSpace(net.config.code_shape, fingerprint, mean, std)
            if parts.typical and not statistics:
                space = replace(space, whitening=parts.typical[0], far=float(parts.typical[1]))
            if latent is not None and latent.config.size != space.size:
                raise FileError(
                    f"its latent network takes codes of {latent.config.size} numbers, its encoder makes {space.size}"
                )
        except FileError as error:
            raise FileError(f"{cleaned(path.name, 120)}: {error}") from error
        except Exception as error:
            raise FileError(f"{path.name}: {cleaned(error)}; it is damaged or of another family, {FAMILY}") from error
    # The encoder's last map is 4 x 4 in all released models.
    size = own.get("size") or 4 << (len(net.config.encoder) - 1)
    known = bool(own.get("size"))
    return Autoencoder(
        net,
        own.get("schedule", Schedule("linear")),
        own.get("prediction", "eps"),
        space,
        latent,
        size,
        fingerprint,
        known,
    )


def save_autoencoder(
    path: str | Path, made: Autoencoder, half: bool = False, more: Mapping[str, Any] | None = None
) -> Path:
    """Write an autoencoder, its statistics and its latent network into one file; see :func:`write_autoencoder`."""
    return write_autoencoder(
        path,
        made.net.state_dict(),
        NetworkFacts(made.image_size, made.net.config.patch, made.schedule, made.prediction),
        space=made.space,
        latent=made.latent,
        half=half,
        more=more,
    )


@dataclass(frozen=True)
class NetworkFacts:
    """What a file says of its network besides the weights.

    Attributes:
        size: side in pixels of the training pictures.
        patch: see :class:`core.networks.diffae.DiffAEConfig`.
        schedule: noise of the training.
        prediction: what the network returns.
    """

    size: int
    patch: int
    schedule: Schedule
    prediction: Prediction


def write_autoencoder(
    path: str | Path,
    weights: Mapping[str, Tensor],
    network: NetworkFacts,
    *,
    space: CodeSpace | None = None,
    latent: LatentMLP | None = None,
    half: bool = False,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Write one file of ours, which appears complete or not at all.

    Args:
        path: where.
        weights: of U-Net and encoder.
        network: what is to be known of it.
        space: of its codes, for the statistics.
        latent: its latent network.
        half: weights in float16; the statistics stay float32.
        more: further facts of the metadata, JSON values, such as how long it was trained.

    Raises:
        ValueError: weights that are not finite, in half precision if ``half``.
    """
    tensors = dict(weights) | ({LATENT + k: v for k, v in latent.state_dict().items()} if latent is not None else {})
    tensors = {k: v.half() if half else v for k, v in tensors.items()}
    if space is not None and space.mean is not None and space.std is not None:
        tensors |= {MEAN: space.mean, STD: space.std}
        if space.whitening is not None:
            tensors |= {WHITENING: space.whitening, DISTANCE: torch.tensor([space.far])}
    schedule = network.schedule
    facts = {
        "prediction": network.prediction,
        "patch": network.patch,
        "size": network.size,
        "betas": schedule.kind,
        "beta_start": schedule.start,
        "beta_end": schedule.end,
        "steps": schedule.steps,
    }
    return write(path, FACE_DIFFAE, {**(more or {}), **facts}, tensors)


def _filled(kind: Any, config: Any, state: State, dtype: torch.dtype) -> Any:
    net = outline(kind, config, state)
    weights = {k: v.to(dtype, copy=True).contiguous() for k, v in state.items()}
    check_finite(weights, f" once they are {dtype}; load it in float32")
    net.load_state_dict(weights, assign=True)
    return net.requires_grad_(False).eval()
