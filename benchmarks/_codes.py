"""What the benchmark of semantic codes asks of an autoencoder, and of the regressor about its pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from core.faces.code_labels import CLASSES, YES_NO, yes_no
from core.faces.factors import BY_NAME, FACTORS
from core.faces.regressor import Regressor, factor_change, measure, measure_scores
from core.files.diffae import Autoencoder
from core.invert.ddim import invert_ddim
from core.networks.diffae import Coded
from core.networks.vp import VPDenoiser
from core.sample import sample_ddim
from core.schedule import grid_sigmas, vp_scale

BATCH, EDIT_STEPS = 64, 20
MOVED = 0.1
"""Least change that counts as one."""
_SHOWN = 0.45
"""Least eye opening at which the colour of the iris counts."""


class Faces:
    """One autoencoder on pictures `[n 3 64 64]` in -1..1."""

    def __init__(self, source: Autoencoder, x: Tensor):
        self.source, self.x = source, x
        self.code = torch.cat([source.net.encoder(part) for part in x.split(BATCH)])

    def denoiser(self, code: Tensor) -> VPDenoiser:
        """The model for some codes."""
        return VPDenoiser(
            Coded(self.source.net, code), self.source.schedule, self.source.prediction, self.source.fingerprint
        )

    def decode(self, code: Tensor, noise: Tensor, steps: int, eta: float = 0.0) -> Tensor:
        """Pictures in -1..1 of codes, from noises at the first of the levels; ``eta`` 1 draws new noise at every
        step."""
        sigmas, new = grid_sigmas(self.source.schedule, steps, "stride"), torch.Generator().manual_seed(5)
        parts = zip(code.split(BATCH), noise.split(BATCH), strict=True)
        return torch.cat([sample_ddim(self.denoiser(c), n, sigmas, eta=eta, generator=new) for c, n in parts]).clamp(
            -1, 1
        )

    def invert(self, steps: int) -> Tensor:
        """The pictures' own noises."""
        sigmas = grid_sigmas(self.source.schedule, steps, "stride")
        parts = zip(self.code.split(BATCH), self.x.split(BATCH), strict=True)
        return torch.cat([invert_ddim(self.denoiser(c), x, sigmas).noisiest for c, x in parts]).float()

    def fresh(self, steps: int, seed: int = 1) -> Tensor:
        """Noises that know nothing of the pictures."""
        top = float(grid_sigmas(self.source.schedule, steps, "stride")[0])
        return torch.randn(self.x.shape, generator=torch.Generator().manual_seed(seed)) * vp_scale(top)


def discrete(regressor: Regressor, before: Tensor, after: Tensor) -> dict[str, float]:
    """Share of faces whose discrete factors read the same; eye colour where eyes are open enough to show it."""
    a, b = (measure(regressor, v / 2 + 0.5) for v in (before, after))
    same = {f.name: (a[f.name] == b[f.name]).float() for f in FACTORS if f.classes}
    return {n: float((v[a["eye_open"] > _SHOWN] if n == "eye_color" else v).mean()) for n, v in same.items()}


def factor_of(name: str) -> str:
    """Factor that an attribute is about."""
    plain = name.replace(" ", "_")
    return plain if plain in BY_NAME else {"hair": "hair_color", "eyes": "eye_color"}[name.rsplit(maxsplit=1)[-1]]


def pushed(regressor: Regressor, name: str, before: Tensor, after: Tensor) -> Tensor:
    """How far each face went where an edit was to take it, `[b]`: in shares of the range, or of the certainty of a
    yes."""
    factor = factor_of(name)
    if name not in YES_NO:
        return factor_change(regressor, before / 2 + 0.5, after / 2 + 0.5)[factor]
    a, b = (measure_scores(regressor, v / 2 + 0.5)[factor] for v in (before, after))
    return b - a if a.dim() == 1 else (b - a)[:, CLASSES[factor].index(name.split(maxsplit=1)[0])]


def reached(regressor: Regressor, name: str, before: Tensor, after: Tensor) -> Tensor:
    """Which faces an edit took all the way, `[b]` bool: to a yes, or a tenth of the range up."""
    if name in YES_NO:
        return yes_no(measure(regressor, after / 2 + 0.5))[:, YES_NO.index(name)] > 0.5
    return pushed(regressor, name, before, after) > MOVED


def leaked(regressor: Regressor, name: str, before: Tensor, after: Tensor, hair: bool = False) -> Tensor:
    """Mean change of all other factors, in shares of their ranges, `[b]`; ``hair``: its length and shade may change
    too."""
    moved = factor_change(regressor, before / 2 + 0.5, after / 2 + 0.5)
    free = {factor_of(name), *(("hair_length", "hair_shade") if hair else ())}
    return torch.stack([v.abs() for k, v in moved.items() if k not in free]).mean(0)


def open_to(name: str, regressor: Regressor, x: Tensor) -> Tensor:
    """Faces that an edit can change, `[b]` bool: without the attribute, and with what shows it."""
    read = measure(regressor, x / 2 + 0.5)
    if name in YES_NO:
        free = yes_no(read)[:, YES_NO.index(name)] < 0.5
        return free & (read["eye_open"] > _SHOWN) if name.endswith("eyes") else free
    f = BY_NAME[factor_of(name)]
    return (read[f.name] - f.low) / (f.high - f.low) < 0.7
