"""What files of diffusion autoencoders hold, ours and released ones, by what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..networks.diffae import DiffAEConfig, DiffAENet
from ..networks.latent_mlp import LatentConfig, LatentMLP
from ..text import cleaned
from .kinds import FACE_DIFFAE
from .layouts import FileError, State, renamed, short
from .network import (
    PICKLED,
    SAFE,
    check_file,
    check_finite,
    check_tensors,
    compare,
    open_pickle,
    open_safetensors,
    unreadable,
)

MEAN = "conds_mean"
STD = "conds_std"
LATENT = "latent_net."
HEADS = "classifier."
WHITENING = "conds_whitening"
DISTANCE = "conds_far"
_ALIAS = ".cond_layers.1."
MAX_CODE = 2**18
"""Numbers of a code at most; the largest released has 512 on 10 levels."""
_IGNORED = ("x_T", "conds", "ema_classifier.weight", "ema_classifier.bias")
FAMILY = "expected a diffusion autoencoder, such as last.ckpt of ffhq256_autoenc or a file of this pack"


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


def read_statistics(path: str | Path) -> tuple[Tensor, Tensor]:
    """Read mean and standard deviation of the codes, each `[d]` float32, in any file of this family.

    Raises:
        ValueError: the file is damaged or has none.
    """
    found = read_parts(path).statistics
    if found is None:
        raise FileError(
            f"{Path(path).name}: it has no {MEAN} and {STD}; take the file of the latent network or of the classifier,"
            " or latent.pkl"
        )
    return found


def read_parts(path: str | Path) -> Parts:
    """Read the tensors of a file of this family by what they are for; finite and floating, on the CPU.

    Raises:
        ValueError: whatever is wrong with the file, and the remedy.
    """
    path = Path(path)
    try:
        check_file(path, (*SAFE, *PICKLED, ".pkl"))
        size = path.stat().st_size
        safe = path.suffix.lower() in SAFE
        content, own = open_safetensors(path, FACE_DIFFAE) if safe else (open_pickle(path, size, objects=True), {})
        if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
            content = content["state_dict"]
        state = _used(content)
        check_tensors(state, size)
        parts = _sorted(state, own)
        try:
            used = _checked(parts)
        except FileError:
            raise
        except Exception as error:
            raise FileError(f"{cleaned(error)}; it is damaged or of another family, {FAMILY}") from error
        check_finite(used, "; the file is damaged or its training diverged, get another copy")
        return parts
    except FileError as error:
        raise FileError(f"{cleaned(path.name, 120)}: {error}") from error
    except Exception as error:  # torch, zipfile and safetensors raise dozens of types on hostile bytes
        raise FileError(unreadable(path, error)) from error


def _used(content: Any) -> State:
    """Pick the averaged weights if there are any, and what stands beside them.

    Optimiser, preview noise and codes are left alone.
    """
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise FileError(f"there is no dictionary of weights in it; {FAMILY}")
    strangers = [k for k, v in content.items() if not isinstance(v, Tensor) or not isinstance(k, str)]
    if strangers:
        raise FileError(f"the weights are mixed with other things ({short(strangers)}); save the state_dict alone")
    prefixes = [p for p in ("ema_model.", "model.") if any(k.startswith(p) for k in content)]
    used = []
    for key, value in content.items():
        prefix = next((p for p in prefixes if key.startswith(p)), "")
        if key in _IGNORED or (prefix != (prefixes[0] if prefixes else "") and prefix):
            continue
        used.append((key, key[len(prefix) :], value))
    return renamed(used)


def _sorted(state: State, own: dict[str, Any]) -> Parts:
    """Sort by what they are for, the latent network still with its aliases; sizes are checked before any value."""
    pair = _small(state, (MEAN, STD), MAX_CODE)
    if len(pair) == 1:
        raise FileError(f"of {MEAN} and {STD} only one is there; get another copy")
    typical = _small(state, (WHITENING, DISTANCE), MAX_CODE * 64)
    if len(typical) == 1 or (typical and (not pair or typical[1].numel() != 1)):
        raise FileError(f"{WHITENING} and {DISTANCE} go together, and with {MEAN} and {STD}; get another copy")
    heads = {k.removeprefix(HEADS): state.pop(k) for k in list(state) if k.startswith(HEADS)}
    latent = {k.removeprefix(LATENT): state.pop(k) for k in list(state) if k.startswith(LATENT)}
    if not pair and not heads and "encoder.out.3.weight" not in state:
        raise FileError(f"unknown weights ({short(state)}); {FAMILY}")
    pair = [v.reshape(-1) for v in pair]
    return Parts(
        state, (pair[0], pair[1]) if pair else None, (typical[0], typical[1]) if typical else None, latent, heads, own
    )


def _small(state: State, names: tuple[str, ...], most: int) -> list[Tensor]:
    found = [k for k in names if k in state]
    for name in found:
        if state[name].numel() > most:
            raise FileError(
                f"{name} has {state[name].numel()} numbers, more than the statistics of codes can; get another copy"
            )
    return [state.pop(k).float().clone() for k in found]


def _checked(parts: Parts) -> State:
    """Return what is used of a file, once its names and shapes are those of a network of this family."""
    if sum(v.numel() for v in parts.heads.values()) > MAX_CODE * 64:
        raise FileError(f"its {HEADS}* are larger than any classifier of codes; get another copy")
    used = {HEADS + k: v for k, v in parts.heads.items()}
    if parts.weights:
        outline(DiffAENet, DiffAEConfig.from_state(parts.weights, parts.own.get("patch", 1)), parts.weights)
        used |= parts.weights
    if parts.latent:
        aliases = {k: k.replace(_ALIAS, ".linear_emb.") for k in parts.latent if _ALIAS in k}
        odd = [
            k
            for k, name in aliases.items()
            if name in parts.latent and parts.latent[name].shape != parts.latent[k].shape
        ]
        if odd:
            raise FileError(f"the two copies of {short([LATENT + odd[0]])} differ; get another copy of the file")
        whole = {k: v for k, v in parts.latent.items() if k not in aliases}
        for key, name in aliases.items():
            whole.setdefault(name, parts.latent[key])
        outline(LatentMLP, LatentConfig.from_state(whole), whole)
        _drop_aliases(parts.latent)
        used |= {LATENT + k: v for k, v in parts.latent.items()}
    pair = dict(zip((MEAN, STD), parts.statistics or (), strict=False))
    return used | pair | dict(zip((WHITENING, DISTANCE), parts.typical or (), strict=False))


def _drop_aliases(latent: State) -> None:
    """Drop one of the two names under which the released network holds each of its step embeddings."""
    for key in [k for k in latent if _ALIAS in k]:
        name = key.replace(_ALIAS, ".linear_emb.")
        value = latent.pop(key)
        if not torch.equal(latent.setdefault(name, value), value):
            raise FileError(f"the two copies of {short([LATENT + name])} differ; get another copy of the file")


def outline(kind: Any, config: Any, state: State) -> nn.Module:
    """Build the network without weights, if ``state`` has its names and shapes; those in a file can be huge."""
    with torch.device("meta"):
        net: nn.Module = kind(config)
    compare(net.state_dict(), state)
    return net
