"""The path of an image through noise: what inversion returns and every edit starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

_SAME = 1e-3  # levels of two schedules that differ by less are one


@dataclass(frozen=True)
class Trajectory:
    """States of one or more images on a grid of noise levels.

    Attributes:
        sigmas: `[n+1]` float64, descending, last entry 0: the order in which a sampler walks.
        states: `[n+1 b c h w]` in the sigma dialect; ``states[0]`` is the noisiest, ``states[-1]`` the clean image.
        fingerprint: of the model that was inverted.
        method: how, for people ("ddim B", "fixed point 3").
        noises: `[n b c h w]` or None; the noise added by each step of a stochastic inversion.
        reconstruction: `[b c h w]` or None; the image that sampling back along ``sigmas`` gives.
        residual: `[n]` or None; relative residual of each implicit step.
        extra: what else belongs to it, see :mod:`core.payload`; ``flow`` is True where states are ``(1 - sigma) x0 + sigma n``.
    """

    sigmas: Tensor
    states: Tensor
    fingerprint: str
    method: str = ""
    noises: Tensor | None = None
    reconstruction: Tensor | None = None
    residual: Tensor | None = None
    extra: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        s = self.sigmas
        if s.dim() != 1 or len(s) < 2 or bool((s[1:] >= s[:-1]).any()) or float(s[-1]) != 0.0:
            raise ValueError(f"sigmas must be one descending row that ends in 0, got {s.tolist()[:8]}")
        if self.states.dim() != 5 or len(self.states) != len(s):
            raise ValueError(f"states must be [{len(s)} b c h w] for {len(s)} sigmas, got {list(self.states.shape)}")
        if not torch.isfinite(self.states).all():
            raise ValueError("the trajectory holds NaN or infinite values; invert again with a finite image and fewer, larger steps")

    @property
    def x0(self) -> Tensor:
        """The inverted image, `[b c h w]`."""
        return self.states[-1]

    @property
    def rebuilt(self) -> Tensor:
        """``reconstruction``, which must be there.

        Raises:
            ValueError: nobody has sampled back yet.
        """
        if self.reconstruction is None:
            raise ValueError("this trajectory has no reconstruction yet; call core.edit.sample.reconstruct on it")
        return self.reconstruction

    @property
    def noisiest(self) -> Tensor:
        """The state at ``sigmas[0]``, `[b c h w]`."""
        return self.states[0]

    def nearest(self, sigma: float) -> int:
        """Index of the noisy grid point nearest to ``sigma`` in log scale (never the clean end)."""
        return int((self.sigmas[:-1].log() - torch.tensor(max(sigma, 1e-8), dtype=torch.float64).log()).abs().argmin())

    def at(self, sigma: float) -> Tensor:
        """The state at any level, `[b c h w]`: between two stored ones in a straight line, as an Euler step has it; the noisiest above."""
        s = self.sigmas
        near = int((s - sigma).abs().argmin())
        if abs(float(s[near]) - sigma) <= _SAME * sigma:
            return self.states[near]
        after = int((s > sigma).sum())
        if after == 0:
            return self.states[0]
        high, low = float(s[after - 1]), float(s[after])
        return torch.lerp(self.states[after], self.states[after - 1], (sigma - low) / (high - low))

    def image(self, index: int) -> Trajectory:
        """The trajectory of one image of the batch, and of prompts (or semantic codes) that are one an image its own.

        Raises:
            ValueError: there is no such image.
        """
        count = self.states.shape[1]
        if not 0 <= index < count:
            raise ValueError(f"image_index must lie in 0..{count - 1} for this trajectory, got {index}")
        pick = slice(index, index + 1)
        noises, reconstruction = (None if v is None else v[..., pick, :, :, :] for v in (self.noises, self.reconstruction))
        extra = self._extra(lambda pair: pair[:, pick])
        if "prompts" in extra and count > 1:
            own = {k: _row(v, pick, count) if isinstance(v, list) else v for k, v in extra["prompts"].items()}
            extra = {**extra, "prompts": own}
        return replace(self, states=self.states[:, pick], noises=noises, reconstruction=reconstruction, extra=extra)

    def repeat(self, n: int) -> Trajectory:
        """``n`` copies of a trajectory of one image (views, no memory), for many edits in one run."""
        if self.states.shape[1] != 1:
            raise ValueError(
                f"only the trajectory of one image can be repeated, this one holds {self.states.shape[1]}; pick one with image()"
            )
        states, extra = self.states.expand(-1, n, -1, -1, -1), self._extra(lambda pair: pair.expand(-1, n, -1, -1, -1))
        return replace(self, states=states, noises=None, reconstruction=None, extra=extra)

    def to(self, device: torch.device | str) -> Trajectory:
        """The same trajectory on another device."""
        move = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor) and k not in ("sigmas", "residual")}
        return replace(self, **move, extra=self._extra(lambda pair: pair.to(device)))

    def _extra(self, change: Callable[[Tensor], Tensor]) -> dict:
        """``extra``, the coupled states of an exact inversion changed along with ``states``."""
        pair = self.extra.get("pair")
        return self.extra if pair is None else {**self.extra, "pair": change(pair)}

    def check_run(self, sigmas: Tensor, x: Tensor, node: str, skip: int = 0) -> None:
        """Refuse a sampler's run that cannot follow the stored states.

        Args:
            sigmas: of the run.
            x: its latent, `[b c h w]`.
            node: that gives the right SIGMAS.
            skip: steps left out at the noisy end.

        Raises:
            ValueError: other steps, or pictures of another size.
        """
        grid, held = self.sigmas[skip:], list(self.states.shape[2:])
        if len(sigmas) != len(grid) or not torch.allclose(sigmas.double().cpu(), grid, rtol=1e-4):
            raise ValueError(f"connect the SIGMAS output of {node} to the sampler: its steps belong to the stored states")
        if list(x.shape[1:]) != held:
            raise ValueError(
                f"the trajectory holds pictures of {held}, the latent connected has {list(x.shape[1:])}; connect the latent of the "
                "inversion, or one of that size"
            )

    def check_base(self, fingerprint: str) -> None:
        """Refuse another checkpoint; a LoRA on top may be the edit.

        Raises:
            ValueError: the weights below all patches differ.
        """
        if self.fingerprint.partition("+")[0] != fingerprint.partition("+")[0]:
            self.check_model(fingerprint)

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model other than the one that was inverted.

        Raises:
            ValueError: the fingerprints differ.
        """
        if self.fingerprint != fingerprint:
            raise ValueError(
                f"this trajectory was made with model {self.fingerprint}, but the model connected here is {fingerprint}; "
                "connect the same MODEL to both nodes, or invert the image again with this one"
            )


def _row(conditioning: list, pick: slice, count: int) -> list:
    """A CONDITIONING of the host for one of ``count`` images: its row where there is one an image, otherwise as it is."""

    def own(value: Any) -> Any:
        return value[pick] if isinstance(value, Tensor) and len(value) == count else value

    return [
        [own(tensor), {**more, "pooled_output": own(more["pooled_output"])} if "pooled_output" in more else more]
        for tensor, more in conditioning
    ]
