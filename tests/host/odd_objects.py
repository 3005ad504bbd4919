"""What can come in through the sockets of conditioning and of the pack itself."""

from __future__ import annotations

from typing import Any

import torch

from .odd_inputs import INF, NAN, WRONG, spoilt


def conditionings(given: list) -> dict[str, Any]:
    """For a CONDITIONING of one entry."""
    (x, facts), *_ = given
    tensors = {
        "missing": None,
        "text": "x",
        "no rows": x[:0],
        "no tokens": x[:, :0],
        "no width": x[..., :0],
        "rank 1": x[0, 0],
        "rank 2": x[0],
        "rank 4": x[None],
        "nan": spoilt(x, NAN),
        "inf": spoilt(x, INF),
        "wider": torch.cat([x, x[..., :1]], -1),
        "768": torch.zeros(1, 77, 768),
        "narrow": x[..., :1],
        "half": x.half(),
        "double": x.double(),
        "int": x.long(),
        "complex": x.to(torch.complex64),
        "two rows": x.repeat(2, 1, 1),
        "one token": x[:, :1],
        "three times": x.repeat(1, 3, 1),
        "meta": x.to("meta"),
        "bfloat16": x.bfloat16(),
        "float8": x.to(torch.float8_e4m3fn),
        "bool": x > 0,
        "sparse": x.to_sparse(),
        "list": x.tolist(),
        "1024": torch.zeros(1, 77, 1024),
        "2048": torch.zeros(1, 77, 2048),
        "4096": torch.zeros(1, 256, 4096),
    }
    more = {
        "pooled text": {"pooled_output": "x"},
        "pooled nan": {"pooled_output": torch.full((1, 8), NAN)},
        "pooled none": {"pooled_output": None},
        "area": {"area": (4, 4, 0, 0), "strength": 1.0},
        "late": {"start_percent": 0.5, "end_percent": 1.0},
        "never": {"start_percent": 1.0, "end_percent": 0.0},
        "early": {"start_percent": 0.0, "end_percent": 0.5},
        "percent text": {"start_percent": "x"},
        "percent nan": {"end_percent": NAN},
        "percent none": {"start_percent": None},
        "area text": {"area": "x"},
        "area short": {"area": (1, 2)},
        "share": {"area": ("percentage", 0.5, 0.5, 0.0, 0.0), "strength": 1.0},
        "strength nan": {"strength": NAN},
        "mask text": {"mask": "x"},
        "mask nan": {"mask": torch.full((1, 64, 64), NAN)},
        "mask empty": {"mask": torch.ones(1, 0, 64)},
        "bounds": {"mask": torch.ones(1, 64, 64), "mask_strength": 1.0, "set_area_to_bounds": True},
        "pooled empty": {"pooled_output": torch.zeros(1, 0)},
        "pooled complex": {"pooled_output": torch.zeros(1, 8, dtype=torch.complex64)},
        "mask": {"mask": torch.ones(1, 64, 64), "mask_strength": 1.0, "set_area_to_bounds": False},
        "unknown": {"hspace_code": "x"},
        "damaged code": {"hspace_code": {"format": "hspace.code", "version": 1}},
    }
    return WRONG | {
        "empty entry": [[]],
        "no dict": [[x]],
        "dict missing": [[x, None]],
        "not a pair": [x],
        "bare tensor": x,
        "tuple": [(x, facts)],
        "two prompts": [*given, *given],
        **{f"tensor: {k}": [[v, facts]] for k, v in tensors.items()},
        **{k: [[x, {**facts, **v}]] for k, v in more.items()},
        "plain": [[x, {}]],
    }


class _Foreign:
    """An embedder of another pack, without some of what is asked of one."""

    space, embed_image, embed_text, parameters, to = "other", min, min, min, min

    def __init__(self, **missing: Any):
        vars(self).update(missing)


def embedders() -> dict[str, Any]:
    """For an HSPACE_EMBEDDER."""
    return WRONG | {
        f"{name}: {bad}": _Foreign(**{name: bad})
        for name in ("space", "embed_image", "embed_text", "parameters", "to")
        for bad in (None, 3)
    }


def payloads(good: dict, others: dict[str, Any]) -> dict[str, Any]:
    """For a socket of the pack that carries a dict."""
    odd: dict[str, Any] = WRONG | {f"as {k}": v for k, v in others.items()}
    for key, value in good.items():
        odd[f"without {key}"] = {k: v for k, v in good.items() if k != key}
        odd |= {f"{key}: {name}": {**good, key: bad} for name, bad in _fields(value).items()}
    return odd


def few(good: dict, others: dict[str, Any]) -> dict[str, Any]:
    """The same, without every damage to every field."""
    key = max(good, key=lambda k: isinstance(good[k], torch.Tensor))
    return (
        WRONG
        | {f"as {k}": v for k, v in others.items()}
        | {
            "version": {**good, "version": 99},
            "lean": {"format": good["format"], "version": 1},
            f"no {key}": {**good, key: None},
        }
    )


def _fields(value: Any) -> dict[str, Any]:
    odd: dict[str, Any] = {"none": None, "text": "x", "list": [], "dict": {}, "minus": -1}
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        odd |= {
            "nan": spoilt(value, NAN),
            "inf": spoilt(value, INF),
            "empty": value[:0],
            "scalar": value.flatten()[:1].sum(),
            "longer": torch.cat([value, value]),
        }
        odd |= {
            "complex": value.to(torch.complex64),
            "half": value.half(),
            "more ranks": value[None],
            "other": torch.ones(3),
        }
    elif isinstance(value, float):
        odd |= {"nan": NAN, "inf": INF, "huge": 1e30}
    elif isinstance(value, int):
        odd |= {"nan": NAN, "zero": 0, "huge": 10**9, "half": 2.5}
    elif isinstance(value, str):
        odd |= {"long": "x" * 50_000, "escape": "\x1b[31m\0"}
    elif isinstance(value, (list, tuple)):
        odd |= {"mixed": [None, 3, "x"], "twice": [*value, *value]}
    elif isinstance(value, dict):
        odd |= {"odd keys": {3: None}, "odd values": dict.fromkeys(value), "prompts": {**value, "prompts": "x"}}
        odd |= {"prompt": {**value, "prompts": {"positive": [[None, {}]], "negative": [], "cfg": 1.0}}}
        odd |= {
            "cfg": {**value, "prompts": {"positive": [[torch.zeros(1, 1, 1), {}]], "negative": [], "cfg": NAN}},
            "flow": {**value, "flow": "x"},
        }
        if "cfg" in value:  # the prompts of a trajectory
            odd |= {"no prompt": {**value, "positive": [[None, {}]]}, "endless": {**value, "cfg": NAN}}
        tensors = {k: v for k, v in value.items() if isinstance(v, torch.Tensor)}
        if tensors:
            name = next(k for k, v in tensors.items() if v.is_floating_point())
            odd |= {
                "nan": {**value, name: spoilt(value[name], NAN)},
                "less": {k: v for k, v in value.items() if k != name},
            }
            odd |= {"other": {**value, name: torch.ones(3)}}
    return odd
