"""The one reader of model files made by others; no code of a file is ever run.

Families: DDPM (Ho et al. 2020, arXiv 2006.11239) and guided diffusion (Dhariwal and Nichol 2021, arXiv 2105.05233), and
    the
embedded model of this pack. Everything a file gets wrong is a ``ValueError`` that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch

from ..networks.ddpm import DDPMConfig, DDPMUNet
from ..networks.guided import GuidedConfig, GuidedUNet
from ..networks.vp import Prediction, VPDenoiser, state_fingerprint
from ..schedule import Schedule
from ..text import cleaned
from .kinds import FACE_MODEL
from .layouts import KNOWN, LATENT, Family, FileError, State, check_diffusers_config, native, unwrap
from .network import (
    MAX_JSON,
    SAFE,
    check_claims,
    check_file,
    check_finite,
    check_tensors,
    compare,
    json_of,
    nested_tensors,
    open_pickle,
    open_safetensors,
    unreadable,
)


class NetworkInfo(TypedDict):
    """What a file says, or its family implies, about a network."""

    family: Family
    prediction: Prediction
    schedule: Schedule
    image_size: int  # side in pixels it was trained at
    # whether the file, or the config.json beside it, says so; otherwise it is a guess from the attention levels
    size_known: bool
    learned_sigma: bool
    found_in: str  # which part of the file was used, "" for all of it
    fingerprint: str


class _File(NamedTuple):
    family: Family
    state: State
    own: dict[str, Any]  # our own metadata, empty for foreign files
    found_in: str
    size: int | None  # image size by the config.json beside it


def load_network(
    path: str | Path, dtype: torch.dtype = torch.float32, legacy: bool = True, head_channels: int = 64
) -> tuple[DDPMUNet | GuidedUNet, NetworkInfo]:
    """Build the network of a file, its configuration read off the shapes. In evaluation mode, frozen, on the CPU.

    Args:
        path: ``.safetensors``/``.sft``, or ``.pt``/``.pth``/``.ckpt``/``.bin`` that hold nothing but tensors.
        dtype: of the weights.
        legacy: guided family only; order of q, k and v inside a head, which no file records. All released models: True.
        head_channels: guided family only; all released 256-pixel models: 64.

    Raises:
        ValueError: whatever is wrong with the file, what was expected, and the remedy: also weights that are missing,
            unexpected, of another shape, or too large for ``dtype``.
    """
    path = Path(path)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
    ):  # weights made under the host's inference mode could not be differentiated
        built: list[DDPMUNet | GuidedUNet] = []

        def build(family: Family, state: State, own: dict[str, Any]) -> None:
            try:
                built.append(_build(family, state, own, legacy, head_channels))
            except FileError:
                raise
            except Exception as error:
                raise FileError(f"{cleaned(error)}; it is damaged or of another family, {KNOWN}") from error

        file = _read(path, build)
        net = built[0]
        state = {k: v.to(dtype, copy=True).contiguous() for k, v in file.state.items()}
        check_finite(state, f" once they are {dtype}; load {path.name} in float32")
        net.load_state_dict(state, assign=True)
        net.requires_grad_(False).eval()
    config = net.config
    own = file.own
    info = NetworkInfo(
        family=file.family,
        prediction=own.get("prediction", "eps"),
        schedule=own.get("schedule", Schedule("linear")),
        image_size=own.get("size") or file.size or _guess_size(config.attention),
        size_known=bool(own.get("size") or file.size),
        learned_sigma=config.out_channels == 2 * config.in_channels,
        found_in=file.found_in,
        fingerprint=state_fingerprint(file.state),
    )
    return net, info


def load_denoiser(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> VPDenoiser:
    """Load a file as a denoiser in the sigma dialect. Arguments and errors as :func:`load_network`."""
    net, info = load_network(path, dtype)
    with torch.inference_mode(False):
        trained_at = info["image_size"], info["size_known"]
        return VPDenoiser(net.to(device), info["schedule"], info["prediction"], info["fingerprint"], trained_at)


def read_tensors(path: str | Path, fits: Callable[[Any], object] | None = None) -> Any:
    """Read the nested content of a foreign file that is no network by itself, as tensors and plain values only.

    The tensors may be mapped from the file: copy what is kept.

    Args:
        path: of the file.
        fits: raises a ValueError if names, shapes or types are not what is wanted; called before any value is read from
            the disk.

    Raises:
        ValueError: as :func:`load_network`.
    """
    path = Path(path)
    try:
        check_file(path)
        size = path.stat().st_size
        content = open_safetensors(path, FACE_MODEL)[0] if path.suffix.lower() in SAFE else open_pickle(path, size)
        check_claims(nested_tensors(content), size)
    except FileError as error:
        raise FileError(f"{cleaned(path.name, 120)}: {error}") from error
    except Exception as error:  # torch, zipfile and safetensors raise dozens of types on hostile bytes
        raise FileError(unreadable(path, error)) from error
    if fits is not None:
        fits(content)
    return content


def _read(path: Path, build: Callable[[Family, State, dict[str, Any]], object] | None = None) -> _File:
    """Read the bytes of the file; whatever they provoke leaves as a ValueError."""
    try:
        check_file(path)
        size = path.stat().st_size
        safe = path.suffix.lower() in SAFE
        content, own = open_safetensors(path, FACE_MODEL) if safe else (open_pickle(path, size), {})
        raw, found_in = unwrap(content)
        check_tensors(raw, size)
        family, state = native(raw)
        if build is not None:
            build(family, state, own)  # names and shapes before the first value
        check_finite(state, "; the file is damaged or its training diverged, get another copy")
        beside = (
            None
            if own or "time_embedding.linear_1.weight" not in raw
            else _diffusers_size(path.with_name("config.json"))
        )
        return _File(family, state, own, found_in, beside)
    except FileError as error:
        raise FileError(f"{cleaned(path.name, 120)}: {error}") from error
    except Exception as error:  # torch, zipfile and safetensors raise dozens of types on hostile bytes
        raise FileError(unreadable(path, error)) from error


def _diffusers_size(path: Path) -> int | None:
    config = json_of(path.read_text("utf-8", "replace")) if path.is_file() and path.stat().st_size < MAX_JSON else None
    if not isinstance(config, dict) or config.get("_class_name") != "UNet2DModel":
        return None
    check_diffusers_config(config)
    size = config.get("sample_size")
    return size if type(size) is int and 8 <= size <= 4096 else None


def _build(
    family: Family, state: State, own: dict[str, Any], legacy: bool, head_channels: int
) -> DDPMUNet | GuidedUNet:
    """Build the network of these names and shapes, without weights."""
    if family == "ddpm":
        config = DDPMConfig.from_state(state, own.get("patch", 1))
    else:
        config = GuidedConfig.from_state(state, legacy, head_channels)
    if config.in_channels != 3 or config.out_channels not in (3, 6):
        hint = LATENT if config.in_channels == 4 else "only unconditional RGB models can be used"
        raise FileError(
            f"the network takes {config.in_channels} channels and returns {config.out_channels}, expected 3 and 3 or 6;"
            f" {hint}"
        )
    with torch.device("meta"):
        net = DDPMUNet(config) if isinstance(config, DDPMConfig) else GuidedUNet(config)
    compare(net.state_dict(), state)
    return net


def _guess_size(attention: tuple[bool, ...]) -> int:
    """Guess the size: one attention level is by custom at 16 pixels.

    Of several the coarsest is at 8; with none the bottleneck is.
    """
    levels = [i for i, used in enumerate(attention) if used]
    return 16 * 2 ** levels[0] if len(levels) == 1 else 8 * 2 ** (levels[-1] if levels else len(attention) - 1)
