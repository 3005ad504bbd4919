"""Where files are read from and written to: the host's folders, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import folder_paths

from ...core.weights_folder import weights_folder

WEIGHTS = weights_folder()
REGRESSOR = "face_regressor.safetensors"
EMBEDDER = "face_embedder.safetensors"
MODELS = "hspace"
DIRECTIONS = "hspace_directions"
EDITS = "hspace_edits"
METRICS = "hspace_metrics"
ASYRP = "asyrp"
TUNED = "finetuned"
RECTIFIER = "rectifier"
HEADS = "attributes"
RUNS = "training"
MAPPER = "delta_mapper"
PADA = "pada"
_KINDS = {
    ASYRP: (EDITS, "asyrp"),
    RECTIFIER: (EDITS, "rectifier"),
    HEADS: (EDITS, "attributes"),
    MAPPER: (EDITS, "delta_mapper"),
    PADA: (EDITS, "pada"),
    RUNS: (EDITS, "training"),
    TUNED: ("loras", "hspace"),
}
_SHIPPED = "hspace/"
_CHECKPOINTS = {".safetensors", ".sft", ".pt", ".pth", ".ckpt", ".bin"}


def register_folders() -> None:
    """Add ``models/hspace`` and ``hspace_metrics`` (checkpoints), ``hspace_directions`` and ``hspace_edits`` to the
    host's model folders.
    """
    kinds = ((MODELS, _CHECKPOINTS), (METRICS, _CHECKPOINTS), (DIRECTIONS, {".safetensors"}), (EDITS, {".safetensors"}))
    for name, extensions in kinds:
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
    raise ValueError(
        f"no checkpoint {name!r} in models/{MODELS} or models/diffusion_models; put the file there and press R to"
        " refresh"
    )


def metric_choices() -> list[str]:
    """Networks that measure, DINO and LPIPS: names of files in ``models/hspace_metrics``."""
    return _list(METRICS)


def metric_path(name: str) -> Path:
    """Resolve a name of :func:`metric_choices`.

    Raises:
        ValueError: there is no such file.
    """
    if name not in metric_choices():
        raise ValueError(f"no file {name!r} in models/{METRICS}; put it there and press R to refresh")
    return Path(folder_paths.get_full_path_or_raise(METRICS, name))


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
        raise ValueError(
            f"no direction file {name!r} in models/{DIRECTIONS}; save one with Save Directions and press R to refresh"
        )
    if name.startswith(_SHIPPED):
        return WEIGHTS / "directions" / name.removeprefix(_SHIPPED)
    return Path(folder_paths.get_full_path_or_raise(DIRECTIONS, name))


def edit_choices(kind: str) -> list[str]:
    """Trained edits of a kind (:data:`ASYRP`, ...): those that come with the pack (``hspace/...``) and the user's own.

    Fine-tuned weights lie in ``models/loras/hspace``, where stock LoRA loaders see them too; all others in
    ``models/hspace_edits``.
    """
    folder, sub = _KINDS[kind]
    shipped = sorted(f"{_SHIPPED}{p.name}" for p in (WEIGHTS / "edits" / kind).glob("*.safetensors"))
    files = [Path(name) for name in _list(folder)]
    return [*shipped, *(f.name for f in files if f.parts[:-1] == (sub,) and f.suffix == ".safetensors")]


def edit_path(kind: str, name: str) -> Path:
    """Resolve a name of :func:`edit_choices`.

    Raises:
        ValueError: there is no such file.
    """
    if name not in edit_choices(kind):
        raise ValueError(
            f"no file {name!r} in models/{'/'.join(_KINDS[kind])}; save one with a Save node and press R to refresh"
        )
    if name.startswith(_SHIPPED):
        return WEIGHTS / "edits" / kind / name.removeprefix(_SHIPPED)
    folder, sub = _KINDS[kind]
    return Path(folder_paths.get_full_path_or_raise(folder, str(Path(sub) / name)))


def edit_stamp(kind: str, *names: str | None) -> str | float:
    """:func:`file_stamp` of trained edits of a kind."""
    return file_stamp(partial(edit_path, kind), *names)


def edits_root(kind: str) -> Path:
    """The folder that trained edits of a kind are written to (created if missing).

    Raises:
        OSError: it is not there and cannot be created.
    """
    folder, sub = _KINDS[kind]
    return _make_folder(Path(folder_paths.get_folder_paths(folder)[0]) / sub, edit_place(kind))


def edit_place(kind: str) -> str:
    """That folder as people know it."""
    return f"models/{'/'.join(_KINDS[kind])}"


def file_stamp(find: Callable[[str], Path], *names: str | None) -> str | float:
    """For ``fingerprint_inputs``: changes when one of the files does, so that the host reads them again.

    Args:
        find: resolves a name, or raises ValueError.
        names: of the files; None, which the host gives for a link, reads them at every run.
    """
    if None in names:
        return float("nan")  # a new one each time: one and the same would be equal to itself in the host's keys
    return " ".join(_stamp(find, name) for name in names if name is not None)


def _stamp(find: Callable[[str], Path], name: str) -> str:
    try:
        path = find(name)
        facts = path.stat()
    except (OSError, ValueError) as error:  # it is the node that says what is wrong
        return f"{name}: {error}"
    return f"{path}:{facts.st_mtime_ns}:{facts.st_size}"


def directions_root() -> Path:
    """The folder that Save Directions writes to (created if missing).

    Raises:
        OSError: it is not there and cannot be created.
    """
    return _make_folder(Path(folder_paths.get_folder_paths(DIRECTIONS)[0]), f"models/{DIRECTIONS}")


def _make_folder(folder: Path, place: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot make the folder {place}: {error.strerror or error}; make {folder} yourself, or name a folder that"
            " can be written in extra_model_paths.yaml"
        ) from error
    return folder


def _list(folder: str) -> list[str]:
    if folder not in folder_paths.folder_names_and_paths:
        return []
    try:
        return folder_paths.get_filename_list(folder)
    except FileNotFoundError:
        # A folder removed since the host listed it: the host looks at the times of the folders that it remembers.
        folder_paths.filename_list_cache.pop(folder, None)
        return folder_paths.get_filename_list(folder)
