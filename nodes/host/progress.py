"""Progress bar, preview and Cancel for the loops of core, through their one callback."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.utils
import latent_preview


def reporter(model, total: int | None, preview: bool = True) -> Callable[[dict], None]:
    """A callback for core loops: moves the node's bar, shows the current estimate, raises if the user cancelled.

    Args:
        model: MODEL, for its preview format.
        total: number of calls expected in all; the bar moves one on at every call. None: the loop says itself how far it is.
        preview: show estimates; off for nodes that end in a picture of their own, which a live preview would hide.
    """
    bar = comfy.utils.ProgressBar(total or 1)
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format) if preview else None

    def report(state: dict) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        picture = state.get("denoised")
        shown = previewer.decode_latent_to_preview_image("JPEG", picture) if previewer and picture is not None else None
        if total is None:
            bar.update_absolute(min(state["i"], state["n"]), state["n"], shown)
        else:
            bar.update_absolute(min(bar.current + 1, total), total, shown)

    return report
