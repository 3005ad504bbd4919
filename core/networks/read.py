"""The one reader of model files made by others; no code of a file is ever run.

Families: DDPM (Ho et al. 2020, arXiv 2006.11239) and guided diffusion (Dhariwal and Nichol 2021, arXiv 2105.05233), and the
embedded model of this pack. Everything a file gets wrong is a ``ValueError`` that says what to do.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, get_args

import torch
from safetensors import safe_open
from torch import Tensor

from ..schedule import Betas, Schedule
from .ddpm import DDPMConfig, DDPMUNet
from .guided import GuidedConfig, GuidedUNet
from .layouts import LATENT, Family, FileError, State, check_diffusers_config, native, short, unwrap
from .vp import Prediction, VPDenoiser, state_fingerprint

MAX_BYTES = 8 * 2**30
"""Largest file that is opened; the largest released pixel model is 2.2 GB, with optimiser and average about four times that."""
MAX_JSON = 100_000
SAFE, PICKLED = (".safetensors", ".sft"), (".pt", ".pth", ".ckpt", ".bin")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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
            _compare(net.state_dict(), file.state)
        except FileError as error:
            raise FileError(f"{path.name}: {error}") from error
        except Exception as error:
            raise FileError(f"{path.name}: {str(error)[:300]}; it is damaged or of another family, use the original release") from error
        state = {k: v.to(dtype, copy=True).contiguous() for k, v in file.state.items()}
        _check_finite(state, f" once they are {dtype}; load {path.name} in float32")
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
        _check_file(path)
        if path.suffix.lower() in SAFE:
            return _open_safetensors(path)[0]
        return _open_pickle(path, path.stat().st_size)
    except FileError as error:
        raise FileError(f"{path.name}: {error}") from error
    except Exception as error:  # torch, zipfile and safetensors raise dozens of types on hostile bytes
        raise FileError(_unreadable(path, error)) from error


def _check_file(path: Path) -> None:
    if path.suffix.lower() not in SAFE + PICKLED:
        raise FileError(f"cannot be read; expected one of {', '.join(SAFE + PICKLED)}")
    if not path.is_file():
        raise FileError("there is no such file; choose one that exists")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FileError(f"{size / 2**30:.1f} GiB is more than a pixel model can be ({MAX_BYTES / 2**30:.0f} GiB); {LATENT}")


def _unreadable(path: Path, error: Exception) -> str:
    return (
        f"{path.name}: not a readable {path.suffix} file ({type(error).__name__}: {str(error)[:160]}); "
        "it is damaged, incomplete or misnamed, download it again"
    )


def _read(path: Path) -> _File:
    """Everything that touches the bytes of the file; whatever they provoke leaves as a ValueError."""
    try:
        _check_file(path)
        size = path.stat().st_size
        content, own = _open_safetensors(path) if path.suffix.lower() in SAFE else (_open_pickle(path, size), {})
        raw, found_in = unwrap(content)
        _check_tensors(raw, size)
        family, state = native(raw)
        _check_finite(state, "; the file is damaged or its training diverged, get another copy")
        beside = None if own or "time_embedding.linear_1.weight" not in raw else _diffusers_size(path.with_name("config.json"))
        return _File(family, state, own, found_in, beside)
    except FileError as error:
        raise FileError(f"{path.name}: {error}") from error
    except Exception as error:  # torch, zipfile and safetensors raise dozens of types on hostile bytes
        raise FileError(_unreadable(path, error)) from error


def _open_safetensors(path: Path) -> tuple[State, dict[str, Any]]:
    with safe_open(path, "pt") as f:
        own = _own_metadata((f.metadata() or {}).get("hspace"))
        return {k: f.get_tensor(k) for k in f.keys()}, own


def _open_pickle(path: Path, size: int) -> Any:
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as z:
            if any(i.compress_type != zipfile.ZIP_STORED for i in z.infolist()) or sum(i.file_size for i in z.infolist()) > size:
                raise FileError("it is a compressed archive, which torch.save never writes; unpack it, or get the original")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not named and "weights_only" not in str(error):
            raise
        # torch's own message recommends to run the code, so it is not passed on
        what = f"code or objects besides tensors ({named[1]})" if named else "something other than a dictionary of tensors"
        raise FileError(f"it holds {what}, which is never run; get a .safetensors file, or save the state_dict alone") from error


def _own_metadata(text: str | None) -> dict[str, Any]:
    """Metadata that ``core/faces/train_model.py`` writes, checked; ``{}`` for a foreign file."""
    if text is None:
        return {}
    meta = _json(text)
    if not isinstance(meta, dict) or meta.get("format") != "hspace_face_model" or meta.get("version") != 1:
        kind = ascii(str(meta.get("format"))[:40]) if isinstance(meta, dict) else "unreadable"
        raise FileError(f"it is marked as {kind} of this pack, not as a face model of version 1; load it with the node made for it")
    values: list[Any] = [meta.get(k) for k in ("patch", "size", "steps", "beta_start", "beta_end")]
    patch, size, steps, start, end = values
    whole = all(type(v) is int and low <= v <= high for v, low, high in ((patch, 1, 16), (size, 8, 4096), (steps, 2, 100_000)))
    betas = isinstance(start, float) and isinstance(end, float) and 0 < start <= end < 1 and meta.get("betas") in get_args(Betas)
    if not whole or not betas or meta.get("prediction") not in get_args(Prediction):
        raise FileError("its metadata (prediction, betas, patch, size or steps) is out of range; restore the file from the repository")
    return {"prediction": meta["prediction"], "schedule": Schedule(meta["betas"], steps, start, end), "patch": patch, "size": size}


def _json(text: str) -> Any:
    try:
        return json.loads(text) if len(text) < MAX_JSON else None
    except (ValueError, RecursionError):
        return None


def _check_tensors(state: State, size: int) -> None:
    for name, value in state.items():
        if not value.numel():
            raise FileError(f"weight {short([name])} is empty; the file is damaged, get another copy")
        if value.layout is not torch.strided or value.device.type != "cpu" or value.dtype not in FLOATS:
            raise FileError(
                f"weight {short([name])} is stored as {str(value.dtype).removeprefix('torch.')}, but only plain float16, bfloat16, "
                "float32 and float64 can be differentiated; get the unquantised release of this model"
            )
    if sum(v.numel() * v.element_size() for v in state.values()) > size:
        raise FileError("its tensors claim more data than the file holds; it is damaged or forged, download it again")


def _check_finite(state: State, remedy: str) -> None:
    bad = [k for k, v in state.items() if not bool(torch.isfinite(v).all())]
    if bad:
        raise FileError(f"weights hold NaN or infinite values ({short(bad)}){remedy}")


def _diffusers_size(path: Path) -> int | None:
    config = _json(path.read_text("utf-8", "replace")) if path.is_file() and path.stat().st_size < MAX_JSON else None
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


def _compare(expected: dict[str, Tensor], state: State) -> None:
    problems = {
        "missing": [k for k in expected if k not in state],
        "unexpected": [k for k in state if k not in expected],
        "of another shape": [
            f"{k} {list(state[k].shape)} instead of {list(v.shape)}"
            for k, v in expected.items()
            if k in state and state[k].shape != v.shape
        ],
    }
    found = "; ".join(f"{len(names)} weights {kind}: {short(names)}" for kind, names in problems.items() if names)
    if found:
        raise FileError(f"{found}. The file is a variant of this family that is not known here; use the original release")


def _guess_size(attention: tuple[bool, ...]) -> int:
    """One attention level is by custom the one at 16 pixels; of several the coarsest is at 8; with none the bottleneck is."""
    levels = [i for i, used in enumerate(attention) if used]
    return 16 * 2 ** levels[0] if len(levels) == 1 else 8 * 2 ** (levels[-1] if levels else len(attention) - 1)
