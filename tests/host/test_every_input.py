"""Every input of every node against every odd value for its type: a right result, or an error that names the input."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from devtools.console import ROOT

from ..sweeps import every
from . import odd_inputs, odd_objects
from .good_inputs import Good

LONGEST, SLOWEST, AT_ONCE = (
    1000,
    20.0,
    1.0,
)  # characters of a message, seconds of this process for a case and for a number
_THOROUGH = {
    "HSPACE_TRAJECTORY": "HSpaceResumeTrajectory",
    "HSPACE_DIRECTIONS": "HSpaceSelectDirections",
    "HSPACE_BASIS": "HSpaceBasisDirections",
    "HSPACE_PLACEMENT": "HSpacePasteBack",
    "HSPACE_DELTA": "HSpaceSteerTrained",
    "HSPACE_HEADS": "HSpaceManipulateCode",
    "HSPACE_TOKENMAP": "HSpacePromptToPrompt",
    "HSPACE_CONCEPTS": "HSpaceConceptEditGuider",
    "HSPACE_DELTAMAPPER": "HSpaceDeltaEdit",
    "HSPACE_PADA": "HSpacePadaAge",
}
"""Every socket of the pack has one check: each field of what it carries is damaged at one node, a few at the others."""
KINDS = sorted(path.stem for path in (ROOT / "web" / "docs").glob("HSpace*.md"))
_UNABLE = {"HSpaceClipEmbedder": "a ViT-L/14"}
"""Nodes without a good value here, for want of what they need; their own tests have one."""


@pytest.fixture(scope="module")
def good(executor):
    """Good values."""
    return Good(executor)


def cases(good: Good, kind: str, cells_of: Callable = every) -> list[tuple[str, str, Any, Any]]:
    """Input, name of the case, value, and what the schema declares; a row of the table is one input."""
    values, schema = [], good.executor.classes[kind].define_schema()
    for number, declared in enumerate(schema.inputs, KINDS.index(kind)):
        for name, value in cells_of(list(odd(good, kind, declared).items()), number):
            values.append((declared.id, name, value, declared))
    return values


def odd(good: Good, kind: str, declared) -> dict[str, Any]:
    """The odd values for one input."""
    values, good_value = good.values, good.value(kind, declared)
    if declared.io_type in ("INT", "FLOAT"):
        return odd_inputs.numbers(declared)
    simple = {"STRING": odd_inputs.texts, "COMBO": odd_inputs.choices, "BOOLEAN": odd_inputs.booleans}
    if declared.io_type in simple:
        return simple[declared.io_type]()
    tensors = {
        "IMAGE": (odd_inputs.images, values["face"]),
        "MASK": (odd_inputs.masks, values["mask"]),
        "LATENT": (odd_inputs.latents, values["noise"]),
        "SIGMAS": (odd_inputs.sigmas, values["sigmas"]),
        "CONDITIONING": (odd_objects.conditionings, good_value if isinstance(good_value, list) else values["prompt"]),
    }
    if declared.io_type in tensors:
        table, value = tensors[declared.io_type]
        return table(value)
    objects = {
        name: values[name]
        for name in (
            "text model",
            "coded",
            "vae",
            "clip",
            "embedder",
            "sampler",
            "face",
            "noise",
            "lora",
            "trajectory",
            "heads",
        )
    }
    if isinstance(good_value, dict) and "format" in good_value:
        whole = _THOROUGH.get(declared.io_type) == kind
        others = {name: v for name, v in values.items() if isinstance(v, dict) and "format" in v}
        return odd_objects.payloads(good_value, others | objects) if whole else odd_objects.few(good_value, objects)
    more = odd_objects.embedders() if declared.io_type == "HSPACE_EMBEDDER" else odd_inputs.WRONG
    return more | {f"as {k}": v for k, v in objects.items() if v is not good_value}


def attempt(good: Good, kind: str, inputs: dict[str, Any], name: str, label: str, declared) -> str:
    """What is wrong with the outcome of one call; nothing if it is right or refused well."""
    outputs, start = None, time.process_time()
    try:
        outputs = good.executor.call(kind, **inputs)
    except ValueError as error:
        trouble = misworded(str(error), name, declared)
    except Exception as error:  # the finding
        trouble = f"{type(error).__name__}: {error}"
    else:
        trouble = (
            ""
            if all(bool(torch.isfinite(t).all()) for _, t in tensors_of(outputs, copies=False))
            else "a result that is not finite"
        )
    seconds = time.process_time() - start
    if (
        declared.io_type in ("INT", "FLOAT")
        and label in odd_inputs.BEYOND
        and (outputs is not None or seconds > AT_ONCE)
    ):
        trouble = (
            trouble or f"beyond the limits, but {'taken' if outputs is not None else f'refused after {seconds:.1f} s'}"
        )
    return trouble or (f"took {seconds:.1f} s" if seconds > SLOWEST else "")


def misworded(text: str, name: str, declared) -> str:
    """What an error lacks."""
    if len(text) > LONGEST or not all(c.isprintable() for c in text):
        return f"a message of {len(text)} characters, {ascii(text)[:100]}"
    named = any(n.lower() in text.lower() for n in (name, declared.display_name) if n)
    return "" if named else f"does not name {name}: {text[:300]}"


def tensors_of(value: Any, where: str = "", copies: bool = True, depth: int = 0) -> list[tuple[str, torch.Tensor]]:
    """Every tensor in lists and dicts, with its place."""
    if isinstance(value, torch.Tensor):
        plain = value.layout == torch.strided and not value.is_nested and value.device.type == "cpu"
        return [(where, value.clone() if copies else value)] if plain else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return (
        [tensor for k, v in items for tensor in tensors_of(v, f"{where}.{k}", copies, depth + 1)] if depth < 8 else []
    )


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit, NaN included."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def listed(good: Good, kind: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs as the host gives them: lists, for a node that takes lists."""
    return {k: [v] for k, v in inputs.items()} if good.executor.classes[kind].define_schema().is_input_list else inputs


@pytest.mark.sweep
@pytest.mark.parametrize("kind", KINDS)
def test_odd_inputs_are_right_or_refused_by_name(good, kind, cells_of):
    base, wrong = good.inputs(kind), []
    for name, label, value, declared in cases(good, kind, cells_of):
        trouble = attempt(good, kind, listed(good, kind, {**base, name: value}), name, label, declared)
        if trouble:
            wrong.append(f"{name} [{label}]: {trouble}")
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in _UNABLE])
def test_inputs_stay_as_they_were(good, kind):
    inputs = listed(good, kind, good.inputs(kind))
    before = tensors_of(inputs)
    outputs = good.executor.call(kind, **inputs)
    after = dict(tensors_of(inputs, copies=False))
    assert [where for where, copy in before if not same(copy, after[where])] == []
    assert all(bool(torch.isfinite(t).all()) for _, t in tensors_of(outputs, copies=False))


def test_there_are_enough_of_them(good):
    assert (
        len(KINDS)
        == len([k for k in good.executor.classes if k.startswith("HSpace") and not k.startswith("HSpaceTest")])
        >= 82
    )
    assert sum(len(cases(good, kind)) for kind in KINDS) >= 2000
