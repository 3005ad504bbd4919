"""Steering as a model patch: a clone, the host's own patch points, any number of Steer nodes in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....core.edit.directions.steer import Shift, h_shift
from ....core.edit_schedule import EditSchedule
from ..model.blocks import block_layers
from ..model.fingerprint import model_fingerprint
from ..model.unet import layers_of
from .compiled import check_uncompiled
from .token_steering import POSITIVE, WrongShape, steered

EDITS = "hspace_edits"
PLAIN = "hspace_plain"
RAW = "hspace_raw"
MODELS = "hspace_models"  # edits that make one denoiser of another
_KEY = "hspace_steering"
_SAME = 1e-4
_LAST = 2  # number of the positive prompt in DualCFGGuider


def edits_of(model) -> list:
    """What Steer nodes asked of a MODEL."""
    return list(model.model_options.get("transformer_options", {}).get(EDITS, ()))


def is_first(sigma: Tensor, options: dict) -> bool:
    """Whether a step is the first of a sampler's run.

    Args:
        sigma: `[b]`, level of the step.
        options: ``transformer_options`` of the step.
    """
    levels = options.get("sample_sigmas")
    return (
        levels is not None
        and len(levels) > 1
        and abs(float(sigma.max()) - float(levels[0])) <= _SAME * float(levels[0])
    )


def check_first(
    schedules: Iterable[EditSchedule], check: Callable[[str], object], node: str, sigma: Tensor, options: dict, model
) -> None:
    """At the first step of a sampler's run, refuse edits that none of its steps would carry out, and a MODEL that is no
    longer theirs.

    A network that TorchCompileModel has compiled is refused too. A run may be a part of a sampling: one that begins
    below the model's noisiest level leaves the levels above to another sampler.

    Args:
        schedules: of the edits.
        check: raises ValueError if a model of this fingerprint is not the one that the edits are for.
        node: that put them there.
        sigma: `[b]`, level of the step.
        options: ``transformer_options`` of the step.
        model: MODEL.

    Raises:
        ValueError: a window without a step, a compiled network, or a node behind ours (ModelSampling) has made another
            model.
    """
    if not is_first(sigma, options):
        return
    check_uncompiled(model, node)
    check_unchanged(check, node, model)
    levels = options["sample_sigmas"]
    earlier = float(levels[0]) < float(model.get_model_object("model_sampling").sigma_max) * (1 - _SAME)
    for schedule in schedules:
        schedule.check_levels(levels.tolist(), earlier)


def check_unchanged(check: Callable[[str], object], node: str, model) -> None:
    """Refuse, in a sampler, a MODEL that a node between ours and the sampler has made another one.

    Args:
        check: raises ValueError if a model of this fingerprint is not the one that the edit is for.
        node: ours.
        model: MODEL.

    Raises:
        ValueError: it is another one, and in what.
    """
    try:
        check(model_fingerprint(model))
    except ValueError as error:
        raise ValueError(
            f"a node between {node} and the sampler has changed this MODEL (ModelSampling and the like): {error}"
        ) from error


def _checked(executor, x: Tensor, sigma: Tensor, model_options: dict[str, Any], seed=None) -> Tensor:
    """The guided prediction of a sampler."""
    options = model_options.get("transformer_options", {})
    if not options.get(PLAIN):
        edits = options.get(EDITS, ())
        patcher = executor.class_obj.model_patcher
        layers = layers_of(patcher.model.diffusion_model) or ()

        def check(fingerprint: str) -> None:
            for edit in edits:
                edit.check_model(fingerprint, layers)

        check_first((edit.schedule for edit in edits), check, "Steer", sigma, options, patcher)
        if "middle" in executor.class_obj.conds:  # DualCFGGuider asks for the negative prompt first
            model_options = {**model_options, "transformer_options": {**options, POSITIVE: _LAST}}
    return executor(x, sigma, model_options, seed)


def _shifted(layer: str, h: Tensor, options: dict) -> Tensor:
    if options.get(PLAIN):
        return h
    edits = [e for e in options.get(EDITS, ()) if e.layer == layer]
    if not edits:
        return h
    try:
        shift = h_shift(edits, float(options["sigmas"].max()), h)
    except ValueError as error:
        raise ValueError(f"{error}{_resizing(options)}") from error
    return h if shift is None else h + shift


def _tokens(executor, x: Tensor, t: Tensor, concat, context, control, options: dict[str, Any], **kwargs) -> Tensor:
    """A call of a transformer."""
    edits = () if options.get(PLAIN) else options.get(EDITS, ())
    try:
        with steered(executor.class_obj.diffusion_model, x, edits, options):
            return executor(x, t, concat, context, control, options, **kwargs)
    except WrongShape as error:
        raise ValueError(f"{error}{_resizing(options)}") from error


def _resizing(options: dict) -> str:
    """What on a MODEL makes h of another size than the picture's, for messages."""
    patches = options.get("patches", {})
    codes = [f for name in ("input_block_patch", "input_block_patch_after_skip") for f in patches.get(name, ())]
    names = [getattr(f, "__qualname__", type(f).__qualname__).partition(".")[0] for f in codes]
    if options.get("context_window") is not None:
        names.append("Context Windows")
    keys = [
        key
        for kind in options.get("wrappers", {}).values()
        for key in kind
        if key and not str(key).startswith("hspace")
    ]
    suspects = ", ".join(dict.fromkeys([*names, *map(str, keys)]))
    if not suspects:
        return ""
    return (
        f". If the picture has the right size: {suspects} on this MODEL may change what the network sees; take it off"
    )


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
        if block_layers(model.model.diffusion_model):
            clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, _KEY, _tokens)
        else:
            clone.set_model_middle_block_after_patch(_middle)
            clone.set_model_output_block_patch(_output)
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, _KEY, _checked)
    options[EDITS] = [*edits, edit]
    return clone
