"""The one reader of model files made by others; no code of a file is ever run.

Families: DDPM (Ho et al. 2020, arXiv 2006.11239) and guided diffusion (Dhariwal and Nichol 2021, arXiv 2105.05233), and the
embedded model of this pack. Everything a file gets wrong is a ``ValueError`` that says what to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch

from ..schedule import Schedule
from .ddpm import DDPMConfig, DDPMUNet
from .files import MAX_JSON, SAFE, check_file, check_finite, check_tensors, compare, json_of, open_pickle, open_safetensors, unreadable
from .guided import GuidedConfig, GuidedUNet
from .layouts import LATENT, Family, FileError, State, check_diffusers_config, native, unwrap
from .vp import Prediction, VPDenoiser, state_fingerprint

FORM = "hspace_face_model"


class NetworkInfo(TypedDict):
    """What a file says, or its family implies, about a network."""

    family: Family
    prediction: Prediction
    schedule: Schedule
    image_size: int  # side in pixels it was trained at: stored for our own files, for others a guess from its attention levels
    learned_sigma: bool
    found_in: str  # which part of the file was used, "" for all of it
    fingerprint: str


class _File(NamedTuple):
    family: Family
    state: State
    own: dict[str, Any]  # our own metadata, empty for foreign files
    found_in: str
    size: int | None  # image size by the config.json beside it


def read_checkpoint(path: str | Path) -> tuple[Family, State]:
    """Read the weights of a pixel diffusion network.

    Args:
        path: ``.safetensors``/``.sft``, or ``.pt``/``.pth``/``.ckpt``/``.bin`` that hold nothing but tensors.

    Returns:
        ``ddpm`` or ``guided``, and the weights under the names of ``DDPMUNet`` or ``GuidedUNet``; finite and floating, on the CPU.

    Raises:
        ValueError: whatever is wrong with the file, what was expected, and the remedy.
    """
    file = _read(Path(path))
    return file.family, file.state


def load_network(
    path: str | Path, dtype: torch.dtype = torch.float32, legacy: bool = True, head_channels: int = 64
) -> tuple[DDPMUNet | GuidedUNet, NetworkInfo]:
    """Build the network of a file, its configuration read off the shapes. In evaluation mode, frozen, on the CPU.

    Args:
        path: see :func:`read_checkpoint`.
        dtype: of the weights.
        legacy: guided family only; order of q, k and v inside a head, which no file records. All released models: True.
        head_channels: guided family only; all released 256-pixel models: 64.

    Raises:
        ValueError: as :func:`read_checkpoint`, or weights that are missing, unexpected, of another shape, or too large for ``dtype``.
    """
    path = Path(path)
    with torch.inference_mode(False), torch.no_grad():  # weights made under the host's inference mode could not be differentiated
        file = _read(path)
        try:
            net = _build(file, legacy, head_channels)
            compare(net.state_dict(), file.state)
        except FileError as error:
            raise FileError(f"{path.name}: {error}") from error
        except Exception as error:
            raise FileError(f"{path.name}: {str(error)[:300]}; it is damaged or of another family, use the original release") from error
        state = {k: v.to(dtype, copy=True).contiguous() for k, v in file.state.items()}
        check_finite(state, f" once they are {dtype}; load {path.name} in float32")
        net.load_state_dict(state, assign=True)
        net.requires_grad_(False).eval()
    config, own = net.config, file.own
    info = NetworkInfo(
        family=file.family,
        prediction=own.get("prediction", "eps"),
        schedule=own.get("schedule", Schedule("linear")),
        image_size=own.get("size") or file.size or _guess_size(config.attention),
        learned_sigma=config.out_channels == 2 * config.in_channels,
        found_in=file.found_in,
        fingerprint=state_fingerprint(file.state),
    )
    return net, info


def load_denoiser(path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> VPDenoiser:
    """Load a file as a denoiser in the sigma dialect. Arguments and errors as :func:`load_network`."""
    net, info = load_network(path, dtype)
    with torch.inference_mode(False):
        return VPDenoiser(net.to(device), info["schedule"], info["prediction"], info["fingerprint"])


def read_tensors(path: str | Path) -> Any:
    """The nested content of a foreign file that is no network by itself; nothing but tensors and plain values is ever made.

    Raises:
        ValueError: as :func:`read_checkpoint`.
    """
    path = Path(path)
    try:
        check_file(path)
        if path.suffix.lower() in SAFE:
            return open_safetensors(path, FORM)[0]
        return open_pickle(path, path.stat().st_size)
    except FileError as error:
        raise FileError(f"{path.name}: {error}") from error
    except Exception as error:  # torch, zipfile and safetensors raise dozens of types on hostile bytes
        raise FileError(unreadable(path, error)) from error


def _read(path: Path) -> _File:
    """Everything that touches the bytes of the file; whatever they provoke leaves as a ValueError."""
    try:
        check_file(path)
        size = path.stat().st_size
        content, own = open_safetensors(path, FORM) if path.suffix.lower() in SAFE else (open_pickle(path, size), {})
        raw, found_in = unwrap(content)
        check_tensors(raw, size)
        family, state = native(raw)
        check_finite(state, "; the file is damaged or its training diverged, get another copy")
        beside = None if own or "time_embedding.linear_1.weight" not in raw else _diffusers_size(path.with_name("config.json"))
        return _File(family, state, own, found_in, beside)
    except FileError as error:
        raise FileError(f"{path.name}: {error}") from error
    except Exception as error:  # torch, zipfile and safetensors raise dozens of types on hostile bytes
        raise FileError(unreadable(path, error)) from error


def _diffusers_size(path: Path) -> int | None:
    config = json_of(path.read_text("utf-8", "replace")) if path.is_file() and path.stat().st_size < MAX_JSON else None
    if not isinstance(config, dict) or config.get("_class_name") != "UNet2DModel":
        return None
    check_diffusers_config(config)
    size = config.get("sample_size")
    return size if type(size) is int and 8 <= size <= 4096 else None


def _build(file: _File, legacy: bool, head_channels: int) -> DDPMUNet | GuidedUNet:
    if file.family == "ddpm":
        config = DDPMConfig.from_state(file.state, file.own.get("patch", 1))
    else:
        config = GuidedConfig.from_state(file.state, legacy, head_channels)
    if config.in_channels != 3 or config.out_channels not in (3, 6):
        hint = LATENT if config.in_channels == 4 else "only unconditional RGB models can be used"
        raise FileError(f"the network takes {config.in_channels} channels and returns {config.out_channels}, expected 3 and 3 or 6; {hint}")
    with torch.device("meta"):
        return DDPMUNet(config) if isinstance(config, DDPMConfig) else GuidedUNet(config)


def _guess_size(attention: tuple[bool, ...]) -> int:
    """One attention level is by custom the one at 16 pixels; of several the coarsest is at 8; with none the bottleneck is."""
    levels = [i for i, used in enumerate(attention) if used]
    return 16 * 2 ** levels[0] if len(levels) == 1 else 8 * 2 ** (levels[-1] if levels else len(attention) - 1)
