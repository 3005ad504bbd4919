"""A digest of a MODEL: whatever changes what its network predicts for a state at a noise level.

In it: the weights it was loaded with; patches of them (LoRA), merged or bypassed; other injections; object patches that
replace the sampling (prediction type, sigma table, shift), the latents' scale or parts of the network. All are compared
by value: a node that sets what was there already makes no other model. Not in it, because they may differ between an
inversion and its edit: prompts with their hooks, guidance (``sampler_cfg_function`` and its like), wrappers, attention
patches, ControlNet, precision, ``torch.compile``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import comfy.utils
import torch
from comfy.weight_adapter.bypass import BypassInjectionManager
from torch import Tensor, nn

from ....core.networks.vp import state_fingerprint
from ..types import Model
from .pixel_model import PixelUNet

_BASES: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
_SAMPLES = 64
_SAMPLING = "model_sampling"
_LATENTS = "latent_format"
_PROBES = (0.03, 0.3, 0.9, 3.0, 12.0)  # noise levels at which samplings are compared


def model_fingerprint(model: Model) -> str:
    """Twelve hex digits, and what lies on top of the loaded model as :mod:`core.fingerprint` has it: merged, cast on
    the fly, or waiting.
    """
    parts = [_base(model)]
    patches = _patches(model)
    if patches:
        digest = hashlib.sha256()
        for key in sorted(patches):
            digest.update(key.encode())
            for patch in patches[key]:
                for part in _parts(patch):
                    digest.update(part)
        parts.append(digest.hexdigest()[:8])
    foreign = [
        (key, _code(injection.inject))
        for key, injections in model.injections.items()
        for injection in injections
        if _bypassed(injection) is None
    ]
    if foreign:
        parts.append(f"injection.{_digest(map(str, foreign))}")
    return "+".join([*parts, *(f"{name}.{value}" for name, value in _replaced(model).items())])


def _base(model: Model) -> str:
    net = model.model.diffusion_model
    if isinstance(net, PixelUNet):
        return net.base_fingerprint
    if net not in _BASES:
        prefix = "diffusion_model."
        originals = {k[len(prefix) :]: v.weight for k, v in model.backup.items() if k.startswith(prefix)}
        _BASES[net] = state_fingerprint({**_state(net), **originals})
    return _BASES[net]


def _state(net: nn.Module) -> dict[str, Tensor]:
    """Weights as they are stored; loaders that unpack them (GGUF) list sizes in the place of some, and more of them."""
    stored = dict(net.named_parameters())
    state = net.state_dict()
    return {
        k: stored[k].as_subclass(Tensor) if v.is_meta else v for k, v in state.items() if k in stored or not v.is_meta
    }


def _patches(model: Model) -> dict[str, list]:
    """Patches of weights, those of a bypassed LoRA as they would be if it were merged."""
    patches = {key: list(those) for key, those in model.patches.items()}
    for injection in (i for those in model.injections.values() for i in those):
        for layer, (adapter, strength) in (_bypassed(injection) or {}).items():
            module = comfy.utils.get_attr(model.model, layer)
            patches.setdefault(f"{layer}.weight", []).append((strength, _cast(adapter, module), 1.0, None, None))
    return patches


def _bypassed(injection) -> dict[str, tuple[Any, float]] | None:
    """Adapters and strengths of a bypassed LoRA by layer; None if the injection is something else."""
    cells = getattr(injection.inject, "__closure__", None) or ()
    manager = next((c.cell_contents for c in cells if isinstance(c.cell_contents, BypassInjectionManager)), None)
    return None if manager is None else manager.adapters


def _cast(adapter, module) -> list:
    """Weights as the host casts them in its first run, so that a run makes no other model."""
    dtype = getattr(getattr(module, "weight", None), "dtype", None)
    weights = getattr(adapter, "weights", None)
    if weights is None and isinstance(adapter, nn.Module):
        weights = [v for _, v in sorted(adapter.state_dict().items())]
    values: list[Any] = list(weights) if isinstance(weights, (list, tuple)) else [weights]
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return values
    return [v.to(dtype) if isinstance(v, Tensor) else v for v in values]


def _replaced(model: Model) -> dict[str, str]:
    """Parts by name that object patches change."""
    parts: dict[str, str] = {}
    network = []
    for name, value in sorted(model.object_patches.items()):
        backup = model.object_patches_backup
        original = backup[name] if name in backup else comfy.utils.get_attr(model.model, name)
        if value is original:
            continue
        if name in (_SAMPLING, _LATENTS):
            describe = _sampling if name == _SAMPLING else _latents
            before = describe(original)
            parts |= {k: v for k, v in describe(value).items() if v != before.get(k)}
        elif name.startswith("diffusion_model"):
            now = _object(value)
            if now != _object(original):
                network.append(f"{name} {now}")
    if network:
        parts["network"] = _digest(network)
    return parts


def _sampling(sampling) -> dict[str, str]:
    """A sampling by what it does with numbers, on the CPU."""
    sampling = copy.deepcopy(sampling).to("cpu")
    table = sampling.sigmas.double()
    levels = torch.tensor(_PROBES)
    x = torch.full((len(levels), 1, 1, 1), 0.7)
    out = torch.full((len(levels), 1, 1, 1), -0.4)
    noisy = sampling.noise_scaling(levels[:, None, None, None], out.clone(), x.clone())
    places = torch.linspace(0, len(table) - 1, _SAMPLES).round().long()
    parts = {
        "prediction": _numbers(sampling.calculate_input(levels, x), sampling.calculate_denoised(levels, out, x)),
        "sigmas": _numbers(table[places]),
        "timesteps": _numbers(sampling.timestep(levels)),
        "noise": _numbers(noisy),
    }
    shift = getattr(sampling, "shift", None)
    if isinstance(shift, (int, float)):
        parts["shift"] = f"{float(shift):.6g}"
    return parts


def _latents(latents) -> dict[str, str]:
    probe = torch.linspace(-2, 2, 8 * latents.latent_channels).reshape(1, latents.latent_channels, 2, 4)
    return {"latents": _numbers(latents.process_in(probe), torch.tensor([float(latents.latent_channels)]))}


def _object(value: Any) -> str:
    """A part of a network: class and weights of a module (compiled or not), name of a function, or the value itself."""
    value = getattr(value, "_orig_mod", value)
    if isinstance(value, nn.Module):
        tensors = (part for _, tensor in sorted(value.state_dict().items()) for part in _parts(tensor))
        return hashlib.sha256(b"".join([type(value).__qualname__.encode(), *tensors])).hexdigest()[:8]
    return _code(value) if callable(value) else f"{type(value).__name__} {value!r:.200}"


def _code(function: Any) -> str:
    function = getattr(function, "__func__", function)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _numbers(*values: Tensor) -> str:
    return _digest(f"{v:.4g}" for value in values for v in value.double().flatten().tolist())


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


def _parts(value: Any) -> Iterator[bytes]:
    """Numbers, names and a sample of the tensors inside a patch, whatever its shape."""
    if isinstance(value, Tensor):
        flat = value.detach().reshape(-1)
        yield str(tuple(value.shape)).encode()
        yield flat[:: max(1, flat.numel() // _SAMPLES)].to("cpu", torch.float32).numpy().tobytes()
    elif isinstance(value, (str, int, float)):
        yield str(value).encode()
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _parts(part)
    elif hasattr(value, "weights"):
        yield from _parts(value.weights)
