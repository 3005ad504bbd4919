"""Files of diffusion autoencoders (arXiv 2111.15640, 2304.11829): ours, and the released ones.

Ours are safetensors with the metadata of :func:`write_autoencoder`: the weights under the released names, and where there are any
``conds_mean`` and ``conds_std`` `[d]` of the codes and the weights ``latent_net.*`` of the latent network.

Released are Lightning checkpoints, none of which records its configuration: ``last.ckpt`` of an autoencoder or of its latent network
(``ema_model.*``, which is used, ``model.*``, ``x_T``, and the statistics), that of a classifier (the statistics and ``classifier.*``; its
average ``ema_classifier.*`` is 39 % random start and not used), and ``latent.pkl`` (``conds`` of all pictures and the statistics).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..codes import CodeSpace
from ..own_file import write_own
from ..schedule import Schedule
from .diffae import DiffAEConfig, DiffAENet
from .files import PICKLED, SAFE, check_file, check_finite, check_tensors, compare, open_pickle, open_safetensors, unreadable
from .latent_mlp import LatentConfig, LatentMLP
from .layouts import FileError, State, short
from .vp import Prediction, state_fingerprint

FORM = "hspace_face_diffae"
MEAN, STD, LATENT, HEADS = "conds_mean", "conds_std", "latent_net.", "classifier."
WHITENING, DISTANCE = "conds_whitening", "conds_far"
_IGNORED = ("x_T", "conds", "ema_classifier.weight", "ema_classifier.bias")
_FAMILY = "expected a diffusion autoencoder, such as last.ckpt of ffhq256_autoenc or a file of this pack"


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
    """

    net: DiffAENet
    schedule: Schedule
    prediction: Prediction
    space: CodeSpace
    latent: LatentMLP | None
    image_size: int
    fingerprint: str


class Parts(NamedTuple):
    """What a file of this family holds.

    Attributes:
        weights: of U-Net and encoder, possibly none.
        statistics: mean and standard deviation of the codes, flat, or None.
        typical: whitening and distance, see :class:`core.codes.CodeSpace`; of our own files only.
        latent: weights of the latent network, possibly none.
        heads: ``weight`` `[k d]`, ``bias`` `[k]`, or nothing.
        own: our metadata; empty for foreign files.
    """

    weights: State
    statistics: tuple[Tensor, Tensor] | None
    typical: tuple[Tensor, Tensor] | None
    latent: State
    heads: State
    own: dict[str, Any]


def load_autoencoder(path: str | Path, statistics: str | Path | None = None, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """Build the network of a file, its configuration read off the shapes.

    Args:
        path: a file of ours, or a released ``last.ckpt`` of an autoencoder or its latent network.
        statistics: another file that has mean and deviation of the codes: of a latent network, of a classifier, ``latent.pkl`` or ours.
        dtype: of the weights.

    Raises:
        ValueError: not such a file, damaged, or weights that are missing, unexpected, of another shape or too large for ``dtype``.
    """
    path = Path(path)
    with torch.inference_mode(False), torch.no_grad():  # weights made under the host's inference mode could not be differentiated
        parts = read_parts(path)
        own = parts.own
        pair = read_statistics(statistics) if statistics else parts.statistics
        try:
            if not parts.weights:
                raise FileError("it has no network, only what goes with one; load the autoencoder's file, and this one as its statistics")
            net = _filled(DiffAENet, DiffAEConfig.from_state(parts.weights, own.get("patch", 1)), parts.weights, dtype)
            latent = _filled(LatentMLP, LatentConfig.from_state(parts.latent), parts.latent, dtype) if parts.latent else None
            fingerprint = state_fingerprint(parts.weights)
            mean, std = pair or (None, None)
            size = math.prod(net.config.code_shape)
            if statistics and mean is not None and len(mean) != size:
                raise FileError(
                    f"its codes are {size} numbers, the statistics in {Path(statistics).name} are of {len(mean)}; take those of this model"
                )
            space = CodeSpace(net.config.code_shape, fingerprint, mean, std)
            if parts.typical and not statistics:
                space = replace(space, whitening=parts.typical[0], far=float(parts.typical[1]))
            if latent is not None and latent.config.size != space.size:
                raise FileError(f"its latent network takes codes of {latent.config.size} numbers, its encoder makes {space.size}")
        except FileError as error:
            raise FileError(f"{path.name}: {error}") from error
        except Exception as error:
            raise FileError(f"{path.name}: {str(error)[:300]}; it is damaged or of another family, {_FAMILY}") from error
    # The encoder's last map is 4 x 4 in all released models.
    size = own.get("size") or 4 << (len(net.config.encoder) - 1)
    return Autoencoder(net, own.get("schedule", Schedule("linear")), own.get("prediction", "eps"), space, latent, size, fingerprint)


def read_statistics(path: str | Path) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the codes, each `[d]` float32, in any file of this family.

    Raises:
        ValueError: the file is damaged or has none.
    """
    found = read_parts(path).statistics
    if found is None:
        raise FileError(
            f"{Path(path).name}: it has no {MEAN} and {STD}; take the file of the latent network or of the classifier, or latent.pkl"
        )
    return found


def read_parts(path: str | Path) -> Parts:
    """The tensors of a file of this family by what they are for; finite and floating, on the CPU.

    Raises:
        ValueError: whatever is wrong with the file, and the remedy.
    """
    path = Path(path)
    try:
        check_file(path, (*SAFE, *PICKLED, ".pkl"))
        size = path.stat().st_size
        content, own = open_safetensors(path, FORM) if path.suffix.lower() in SAFE else (open_pickle(path, size, objects=True), {})
        if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
            content = content["state_dict"]
        state = _used(content)
        check_tensors(state, size)
        check_finite(state, "; the file is damaged or its training diverged, get another copy")
        return _sorted(state, own)
    except FileError as error:
        raise FileError(f"{path.name}: {error}") from error
    except Exception as error:  # torch, zipfile and safetensors raise dozens of types on hostile bytes
        raise FileError(unreadable(path, error)) from error


def save_autoencoder(path: str | Path, made: Autoencoder, half: bool = False, more: Mapping[str, Any] | None = None) -> Path:
    """Write an autoencoder, its statistics and its latent network into one file; see :func:`write_autoencoder`."""
    return write_autoencoder(
        path, made.net.state_dict(), size=made.image_size, patch=made.net.config.patch, schedule=made.schedule, prediction=made.prediction,
        space=made.space, latent=made.latent, half=half, more=more,
    )  # fmt: skip


def write_autoencoder(
    path: str | Path, weights: Mapping[str, Tensor], *, size: int, patch: int, schedule: Schedule, prediction: Prediction,
    space: CodeSpace | None = None, latent: LatentMLP | None = None, half: bool = False, more: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write one file of ours, which appears complete or not at all.

    Args:
        path: where.
        weights: of U-Net and encoder.
        size: side in pixels of the training pictures.
        patch: see :class:`core.networks.diffae.DiffAEConfig`.
        schedule: noise of the training.
        prediction: what the network returns.
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
    facts = {
        "format": FORM, "version": 1, "prediction": prediction, "patch": patch, "size": size,
        "betas": schedule.kind, "beta_start": schedule.start, "beta_end": schedule.end, "steps": schedule.steps,
    }  # fmt: skip
    return write_own(path, tensors, {**(more or {}), **facts})


def _used(content: Any) -> State:
    """The averaged weights if there are any, and what stands beside them; optimiser, preview noise and codes are left alone."""
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise FileError(f"there is no dictionary of weights in it; {_FAMILY}")
    strangers = [k for k, v in content.items() if not isinstance(v, Tensor) or not isinstance(k, str)]
    if strangers:
        raise FileError(f"the weights are mixed with other things ({short(strangers)}); save the state_dict alone")
    prefixes = [p for p in ("ema_model.", "model.") if any(k.startswith(p) for k in content)]
    state: State = {}
    for key, value in content.items():
        prefix = next((p for p in prefixes if key.startswith(p)), "")
        name = key[len(prefix) :]
        if key in _IGNORED or (prefix != (prefixes[0] if prefixes else "") and prefix):
            continue
        if name in state:
            raise FileError(f"two weights mean the same thing ({short([key])}); the file mixes two layouts, use the original release")
        state[name] = value
    return state


def _sorted(state: State, own: dict[str, Any]) -> Parts:
    pair = [state.pop(k).float().reshape(-1).clone() for k in (MEAN, STD) if k in state]
    if len(pair) == 1:
        raise FileError(f"of {MEAN} and {STD} only one is there; get another copy")
    typical = [state.pop(k).float().clone() for k in (WHITENING, DISTANCE) if k in state]
    if len(typical) == 1 or (typical and (not pair or typical[1].numel() != 1)):
        raise FileError(f"{WHITENING} and {DISTANCE} go together, and with {MEAN} and {STD}; get another copy")
    heads = {k.removeprefix(HEADS): state.pop(k) for k in list(state) if k.startswith(HEADS)}
    latent = _without_aliases({k.removeprefix(LATENT): state.pop(k) for k in list(state) if k.startswith(LATENT)})
    if not pair and not heads and "encoder.out.3.weight" not in state:
        raise FileError(f"unknown weights ({short(state)}); {_FAMILY}")
    return Parts(state, (pair[0], pair[1]) if pair else None, (typical[0], typical[1]) if typical else None, latent, heads, own)


def _without_aliases(latent: State) -> State:
    """The released network holds each of its step embeddings twice, as one module under two names."""
    for key in [k for k in latent if ".cond_layers.1." in k]:
        name, value = key.replace(".cond_layers.1.", ".linear_emb."), latent.pop(key)
        if not torch.equal(latent.setdefault(name, value), value):
            raise FileError(f"the two copies of {short([LATENT + name])} differ; get another copy of the file")
    return latent


def _filled(kind: Any, config: Any, state: State, dtype: torch.dtype) -> Any:
    with torch.device("meta"):  # shapes in a file can be huge: compared before any memory is taken
        net: nn.Module = kind(config)
    compare(net.state_dict(), state)
    weights = {k: v.to(dtype, copy=True).contiguous() for k, v in state.items()}
    check_finite(weights, f" once they are {dtype}; load it in float32")
    net.load_state_dict(weights, assign=True)
    return net.requires_grad_(False).eval()
