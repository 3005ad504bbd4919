"""Whether a picture is of a MODEL's world: the reference that is known of it, and a look before anything is done."""

from __future__ import annotations

from torch import Tensor

from ....core.denoiser import Callback, Noising
from ....core.measure.domain import WorldReference, compare, denoising_error, world_text
from ....core.measure.known_worlds import KNOWN_WORLDS
from ....core.picture_facts import WorldFact
from ..progress import say
from ..types import Model
from .denoiser import HostDenoiser
from .fingerprint import model_fingerprint

_DRAWN: dict[str, WorldReference] = {}
_MOST = 64  # models of a session


def known_world(model: Model) -> WorldReference | None:
    """What is known of the world of a MODEL: it came with the pack, or Check Model let it draw; None otherwise."""
    fingerprint = model_fingerprint(model)
    return KNOWN_WORLDS.get(fingerprint) or _DRAWN.get(fingerprint)


def keep_world(fingerprint: str, reference: WorldReference) -> None:
    """Keep what a model drew while the host runs."""
    if len(_DRAWN) >= _MOST:
        _DRAWN.pop(next(iter(_DRAWN)))
    _DRAWN[fingerprint] = reference


class Unguided:
    """A denoiser that answers for the positive prompt alone, as references are measured."""

    def __init__(self, denoiser: HostDenoiser):
        self._denoiser = denoiser
        self.noising: Noising = denoiser.noising
        self.fingerprint = denoiser.fingerprint
        self.layers = denoiser.layers

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised picture, `[b c h w]`."""
        return self._denoiser.alone(x, sigma, "positive")

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False):
        """See :class:`core.denoiser.Denoiser`."""
        return self._denoiser.split(x, sigma, layer, smooth)


def look_at_world(
    denoiser, x0: Tensor, reference: WorldReference | None, cfg: float = 1.0, callback: Callback | None = None
) -> WorldFact | None:
    """Ask the network how hard pictures are to denoise, and say on the node what is unusual.

    Args:
        denoiser: inside of a sampler's run.
        x0: the pictures, `[b c h w]`.
        reference: of the model; without one nothing is asked.
        cfg: guidance of the run, which is left out here.
        callback: called four times.
    """
    if reference is None:
        return None
    asked = denoiser if cfg == 1 else Unguided(denoiser)
    fact = compare(reference, denoising_error(asked, x0, reference.sigma, callback))
    if not fact.is_usual:
        say(world_text(fact))
    return fact
