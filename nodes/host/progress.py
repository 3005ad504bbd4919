"""Progress bar, preview and Cancel for the loops of core, through their one callback."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils
import latent_preview
from PIL import Image

from ...core.measure.plots import loss_plot
from .model.frames import with_frame
from .types import Model
from .ui import show_on_node

_EVERY = 2.0  # seconds between two drawings
_log = logging.getLogger(__name__)


def say(text: str) -> None:
    """A line on the node that is running, for what the user should know although nothing is wrong; also in the log."""
    _log.info("HSpace: %s", text)
    show_on_node(text)


def training_reporter(model: Model | None, title: str) -> Callable[[dict], None]:
    """A callback for training loops: moves the node's bar, draws the loss with the latest picture, raises if the user
    cancelled.

    Without a ``model`` there is no picture.
    """
    bar = comfy.utils.ProgressBar(1)
    losses = []
    drawn = [0.0]
    previewer = (
        latent_preview.get_previewer(model.load_device, model.model.latent_format) if model is not None else None
    )

    def report(state: dict) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        losses.append(state["loss"])
        done = state["i"] + 1
        total = state["n"]
        shown = None
        if done == total or time.monotonic() - drawn[0] > _EVERY:
            drawn[0] = time.monotonic()
            curve = Image.fromarray(
                (loss_plot(losses, total, f"{title}: loss {state['smooth']:.4f}")[0] * 255).byte().numpy()
            )
            picture = previewer.decode_latent_to_preview_image("JPEG", state["denoised"])[1] if previewer else None
            sheet = Image.new("RGB", (curve.width + (curve.height if picture else 0), curve.height))
            sheet.paste(curve)
            if picture:
                sheet.paste(picture.resize((curve.height, curve.height)), (curve.width, 0))
            shown = ("JPEG", sheet, sheet.width)
        bar.update_absolute(done, total, shown)

    return report


def reporter(model: Model | None, total: int | None, preview: bool = True) -> Callable[[dict], None]:
    """A callback for core loops: moves the node's bar, shows the current estimate, raises if the user cancelled.

    Args:
        model: MODEL, for its preview format; None: no preview.
        total: number of calls expected in all; the bar moves one on at every call. None: the loop says itself how far
            it is.
        preview: show estimates; off for nodes that end in a picture of their own, which a live preview would hide.
    """
    bar = comfy.utils.ProgressBar(total or 1)
    previewer = None
    if preview and model is not None:
        previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def report(state: dict) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        picture = state.get("denoised")
        shown = None
        if previewer and model is not None and picture is not None:
            shown = previewer.decode_latent_to_preview_image("JPEG", with_frame(model, picture))
        if total is None:
            bar.update_absolute(min(state["i"], state["n"]), state["n"], shown)
        else:
            bar.update_absolute(min(bar.current + 1, total), total, shown)

    return report
