"""Where files are read from and written to: the host's folders, nothing else."""

from __future__ import annotations

from pathlib import Path

import folder_paths

PACK = Path(__file__).resolve().parents[2]
WEIGHTS = PACK / "weights"
REGRESSOR = "face_regressor.safetensors"
MODELS, DIRECTIONS = "hspace", "hspace_directions"
_SHIPPED = "hspace/"
_CHECKPOINTS = {".safetensors", ".sft", ".pt", ".pth", ".ckpt", ".bin"}


def register_folders() -> None:
    """Add ``models/hspace`` (checkpoints) and ``models/hspace_directions`` to the host's model folders."""
    for name, extensions in ((MODELS, _CHECKPOINTS), (DIRECTIONS, {".safetensors"})):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name), is_default=True)
        folders, _ = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (folders, extensions)


def checkpoints() -> list[str]:
    """Names offered by Load Pixel Diffusion Model."""
    return sorted({*_list(MODELS), *_list("diffusion_models")})


def checkpoint_path(name: str) -> Path:
    """Resolve a name of :func:`checkpoints`.

    Raises:
        ValueError: there is no such file.
    """
    for folder in (MODELS, "diffusion_models"):
        if name in _list(folder):
            return Path(folder_paths.get_full_path_or_raise(folder, name))
    raise ValueError(f"no checkpoint {name!r} in models/{MODELS} or models/diffusion_models; put the file there and press R to refresh")


def direction_choices() -> list[str]:
    """Names offered by Load Directions: those that come with the pack (``hspace/...``) and the user's own."""
    shipped = sorted(f"{_SHIPPED}{p.name}" for p in (WEIGHTS / "directions").glob("*.safetensors"))
    return [*shipped, *(_list(DIRECTIONS))]


def direction_path(name: str) -> Path:
    """Resolve a name of :func:`direction_choices`.

    Raises:
        ValueError: there is no such file.
    """
    if name not in direction_choices():
        raise ValueError(f"no direction file {name!r} in models/{DIRECTIONS}; save one with Save Directions and press R to refresh")
    if name.startswith(_SHIPPED):
        return WEIGHTS / "directions" / name.removeprefix(_SHIPPED)
    return Path(folder_paths.get_full_path_or_raise(DIRECTIONS, name))


def file_stamp(path: Path) -> str:
    """Changes when the file does."""
    facts = path.stat()
    return f"{path}:{facts.st_mtime_ns}:{facts.st_size}"


def directions_root() -> Path:
    """The folder that Save Directions writes to (created if missing)."""
    root = Path(folder_paths.get_folder_paths(DIRECTIONS)[0])
    root.mkdir(parents=True, exist_ok=True)
    return root


def _list(folder: str) -> list[str]:
    return folder_paths.get_filename_list(folder) if folder in folder_paths.folder_names_and_paths else []
