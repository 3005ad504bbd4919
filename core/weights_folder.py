"""Where the weights that come with the pack lie: inside the installed package, or beside ``core`` in a checkout."""

from __future__ import annotations

from pathlib import Path


def weights_folder() -> Path:
    """Find the folder of ``face_model.safetensors`` and the other embedded files, whatever the current folder is."""
    core = Path(__file__).resolve().parent
    installed = core / "weights"
    return installed if installed.is_dir() else core.parent / "weights"
