"""Everything that is measured of a model at first contact, in the order in which things can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..measure.domain import SAMPLES, WorldReference, compare, denoising_error, draw_reference, middle_level
from ..measure.fitness import ModelTraits
from ..picture_facts import WorldFact
from ..sample import sample_ddim
from ..schedule import karras
from .first_look import (
    Cut,
    Derivatives,
    Returned,
    clean_error,
    come_back,
    cut_at,
    differentiate,
    seconds_of_call,
)

QUICK, FULL = "quick", "full"
DRAWN_STEPS = 15
_STEPS = {QUICK: (20,), FULL: (20, 50)}
_LOWEST = 0.02  # sigma


@dataclass(frozen=True)
class Parts:
    """What a MODEL is, without asking its network.

    Attributes:
        family: its class and network, for people.
        prediction: what the network predicts.
        levels: lowest and highest sigma.
        side: in pixels, that it works at; None if nobody tells.
        layers: where it can be cut.
        others: nodes of other packs on it.
        cache: step cache that is on it, or "".
        traits: what decides what works with it.
        fingerprint: of it.
        megabytes: of its weights.
        dtype: that it computes in.
        device: that it computes on.
        shape: of a state at the size that it works at, `(c, h, w)`.
    """

    family: str
    prediction: str
    levels: tuple[float, float]
    side: int | None
    layers: tuple[str, ...]
    others: list[str]
    cache: str
    traits: ModelTraits
    fingerprint: str
    megabytes: float
    dtype: str
    device: str
    shape: tuple[int, int, int]


@dataclass
class Looks:
    """What was measured; what failed is missing here and stands in ``failures``.

    Attributes:
        size: of the state that was looked at, `(c, h, w)`.
        picture: that state, `[1 c h w]`.
        drawn: the picture was the model's own.
        autoencoder: PSNR of the picture through the VAE alone, in dB; None without one.
        failures: what could not be measured, and why.
    """

    size: tuple[int, ...] = ()
    picture: Tensor | None = None
    drawn: bool = False
    call: float | None = None
    clean: float | None = None
    cuts: list[Cut] = field(default_factory=list)
    derivatives: Derivatives | None = None
    returned: list[Returned] = field(default_factory=list)
    autoencoder: float | None = None
    reference: WorldReference | None = None
    world: WorldFact | None = None
    level: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    def try_to(self, name: str, work: Callable[[], Any]) -> Any:
        """Measure something; None where it cannot be, for the reason that is kept. Cancel goes through."""
        try:
            return work()
        except (ValueError, RuntimeError, NotImplementedError, TypeError) as error:
            self.failures[name] = " ".join(str(error).split())[:300]
            return None


def steps_for(parts: Parts, count: int) -> Tensor:
    """Noise levels from the model's highest to 0, `[count+1]`."""
    low, high = parts.levels
    if parts.traits.flow:
        return torch.linspace(high, 0, count + 1, dtype=torch.float64)
    return karras(count, high, max(low, _LOWEST))


def calls_of(depth: str) -> int:
    """About how often the network is asked, for a bar."""
    back = sum(2 * steps + 1 for steps in _STEPS[depth])
    return DRAWN_STEPS + back + 12 + (SAMPLES * (DRAWN_STEPS + 1) if depth == FULL else 0)


def look_at(
    model: Denoiser,
    parts: Parts,
    x0: Tensor | None,
    depth: str = QUICK,
    *,
    reference: WorldReference | None = None,
    device: torch.device | str = "cpu",
    callback: Callback | None = None,
) -> Looks:
    """Measure a model.

    Args:
        model: any denoiser.
        parts: of it.
        x0: a picture, `[1 c h w]` on its device; None has it draw one.
        depth: :data:`QUICK` or :data:`FULL`.
        reference: of its world, if that is known; depth full draws one.
        device: of the model.
        callback: called all along; may raise to cancel.
    """
    looks = Looks(drawn=x0 is None, reference=reference)
    if x0 is None:
        levels = steps_for(parts, DRAWN_STEPS)
        noise = torch.randn(1, *parts.shape, generator=torch.Generator().manual_seed(0))
        state = (float(levels[0]) * noise).to(device)
        x0 = looks.try_to("a picture of its own", lambda: sample_ddim(model, state, levels, callback=callback))
    if x0 is None:
        return looks
    picture: Tensor = x0
    looks.size = tuple(picture.shape[1:])
    looks.picture = picture
    looks.level = _inside(middle_level(max(picture.shape[-2:]), model.noising), parts)
    looks.call = looks.try_to("a call", lambda: seconds_of_call(model, picture, looks.level))
    looks.clean = looks.try_to("the prediction", lambda: clean_error(model, picture, parts.levels[0]))
    for steps in _STEPS[depth]:
        levels = steps_for(parts, steps)
        back = looks.try_to("inversion", lambda levels=levels: come_back(model, picture, levels, 0, callback))
        looks.returned += [back] if back else []
    if parts.layers:
        _look_inside(looks, model, parts, picture, depth, callback)
    if looks.reference is None and depth == FULL:
        looks.reference = _draw_world(looks, model, parts, device, callback)
    if looks.reference is not None and not looks.drawn:
        looks.world = _look_at_world(looks, model, picture, looks.reference, callback)
    return looks


def _inside(level: float, parts: Parts) -> float:
    low, high = parts.levels
    return min(max(level, 1.01 * low), 0.99 * high)


def _look_inside(
    looks: Looks, model: Denoiser, parts: Parts, x0: Tensor, depth: str, callback: Callback | None
) -> None:
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)).to(x0)
    x = x0 + looks.level * noise
    layers = parts.layers if depth == FULL else (parts.layers[0], parts.layers[-1])
    for layer in dict.fromkeys(layers):
        cut = looks.try_to(f"layer {layer}", lambda layer=layer: cut_at(model, x, looks.level, [layer]))
        looks.cuts += cut or []
    if not parts.traits.differentiable:
        looks.failures["derivatives"] = "the weights are quantised in a way that cannot be unpacked"
        return
    looks.derivatives = looks.try_to(
        "derivatives", lambda: differentiate(model, x, looks.level, parts.layers[0], callback)
    )


def _draw_world(
    looks: Looks, model: Denoiser, parts: Parts, device: torch.device | str, callback: Callback | None
) -> WorldReference | None:
    levels = steps_for(parts, DRAWN_STEPS)
    level = _inside(middle_level(max(parts.shape[-2:]), model.noising), parts)
    return looks.try_to(
        f"{SAMPLES} pictures of its own",
        lambda: draw_reference(model, parts.shape, levels, level, device, callback),
    )


def _look_at_world(
    looks: Looks, model: Denoiser, x0: Tensor, reference: WorldReference, callback: Callback | None
) -> WorldFact | None:
    errors = looks.try_to("the picture", lambda: denoising_error(model, x0, reference.sigma, callback))
    return None if errors is None else compare(reference, errors)
