"""Steering as a model patch: a clone, the host's own patch points, any number of Steer nodes in a row."""

from __future__ import annotations

from torch import Tensor

from ...core.edit.steer import Shift, h_shift

EDITS, PLAIN, RAW = "hspace_edits", "hspace_plain", "hspace_raw"


def _shifted(layer: str, h: Tensor, options: dict) -> Tensor:
    if options.get(PLAIN):
        return h
    edits = [e for e in options.get(EDITS, ()) if e.layer == layer]
    shift = h_shift(edits, float(options["sigmas"].max()), h) if edits else None
    return h if shift is None else h + shift


def _middle(args: dict) -> dict:
    return {"h": _shifted("middle", args["h"], args["transformer_options"])}


def _output(h: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
    number = options["block"][1]
    return (_shifted(f"up.{number - 1}", h, options) if number else h), skip


def add_steering(model, edit: Shift):
    """A clone of MODEL that also carries ``edit``. Patches are installed once, however many edits there are."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    edits = list(options.get(EDITS, ()))
    if not edits:
        clone.set_model_middle_block_after_patch(_middle)
        clone.set_model_output_block_patch(_output)
    options[EDITS] = [*edits, edit]
    return clone
