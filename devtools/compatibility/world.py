"""One graph on a small random U-Net and latents of 8x8, with a mechanism in it or without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .graph import Graph, Link
from .mechanisms import SIZE, STEPS, Mechanism, network

SEED = 7
CFG = 2.0
TOP = 0.2  # level at which directions are found
EPSILON = 0.01
AS_IT_IS = "any size"  # the pictures are far smaller than what a model of this kind works at
LATENT_SCALE = 0.18215  # of Stable Diffusion 1.x: the host samples latents times this


@dataclass
class World:
    """One graph with or without a mechanism.

    Attributes:
        mechanism: or None.
        after: our node comes first, the mechanism behind it.
        again: the same graph, computed once more.
        least: steps of a run without a mechanism.
    """

    mechanism: Mechanism | None = None
    after: bool = False
    again: bool = False
    least: int = STEPS
    g: Graph = field(default_factory=Graph)

    @property
    def steps(self) -> int:
        """Of every run."""
        return self.mechanism.steps if self.mechanism else self.least

    @property
    def plain(self) -> Link:
        """The network's MODEL without anything."""
        model = [network(self.g), 0]
        return self.g.out("wanBlockSwap", model=model) if self.again else model  # the host's node that does nothing

    @property
    def base(self) -> Link:
        """The MODEL with the mechanism, for nodes that come after it alone."""
        return self._patched(self.plain)

    def edited(self, edit: Callable[[Link], Link]) -> Link:
        """The MODEL with our patch and the mechanism, in the order asked for."""
        return self._patched(edit(self.plain)) if self.after else edit(self._patched(self.plain))

    def _patched(self, model: Link) -> Link:
        step = self.mechanism.model if self.mechanism else None
        return step(self.g, model) if step else model

    def prompt(self, number: int = 1) -> Link:
        """A prompt of the network, with what the mechanism does to prompts."""
        return self.conditioned([network(self.g), number])

    def conditioned(self, positive: Link) -> Link:
        """A prompt with what the mechanism does to it."""
        step = self.mechanism.positive if self.mechanism else None
        return step(self.g, positive) if step else positive

    @property
    def negative(self) -> Link:
        """The average of both prompts."""
        one, two = [network(self.g), 1], [network(self.g), 2]
        return self.g.out(
            "ConditioningAverage", conditioning_to=one, conditioning_from=two, conditioning_to_strength=0.5
        )

    @property
    def vae(self) -> Link:
        """A small autoencoder of pictures of 8 pixels a latent."""
        return self.g.out("HSpaceTestVAE", network="tiny")

    @property
    def batch(self) -> bool:
        """Whether there are three pictures."""
        return self.mechanism is not None and self.mechanism.sampling == "batch"

    @property
    def picture(self) -> Link:
        """A smooth random picture; in a batch the first of three that differ."""
        one = self.g.out("HSpaceTestPicture", case="noise", width=SIZE, height=SIZE)
        if not self.batch:
            return one
        other = self.second
        rest = self.g.out(
            "ImageBatch", image1=other, image2=self.g.out("ImageFlip", image=one, flip_method="x-axis: vertically")
        )
        return self.g.out("ImageBatch", image1=one, image2=rest)

    @property
    def second(self) -> Link:
        """Another picture."""
        return self.g.out("ImageInvert", image=self.g.out("HSpaceTestPicture", case="noise", width=SIZE, height=SIZE))

    @property
    def clean(self) -> Link:
        """The latent of the picture, without what the mechanism does to latents."""
        return self.g.out("VAEEncode", pixels=self.picture, vae=self.vae)

    @property
    def latent(self) -> Link:
        """The latent of the picture for a sampler."""
        return self.masked(self.clean)

    def masked(self, latent: Link) -> Link:
        """What the mechanism does to a latent."""
        step = self.mechanism.latent if self.mechanism else None
        return step(self.g, latent) if step else latent

    @property
    def sigmas(self) -> Link:
        """Levels of the inversion."""
        return self.g.out(
            "ManualSigmas", sigmas=", ".join(f"{TOP * (1 - i / self.steps):.3g}" for i in range(self.steps + 1))
        )

    def inverted(self, model: Link | None = None, picture: Link | None = None, method: str = "fixed point") -> str:
        """Invert Image; without a MODEL on that without the mechanism."""
        model = model or self.plain
        return self.g.add(
            "HSpaceInvertImage",
            model=model,
            image=picture or self.picture,
            sigmas=self.sigmas,
            method=method,
            iterations=1 if method == "fixed point" else 3,
            damping=0.0,
            vae=self.vae,
            positive=self.prompt(),
            negative=self.negative,
            cfg=CFG,
            fit=AS_IT_IS,
        )

    def directions(self, model: Link | None = None, trajectory: str | None = None, sigma: float = 0.0) -> str:
        """Discover one direction of the whole picture; without a MODEL on the plain one."""
        trajectory = trajectory or plain(self).inverted()
        return self.g.add(
            "HSpaceDiscoverRegion",
            model=model or self.plain,
            trajectory=[trajectory, 0],
            k=1,
            mode="none",
            tau=0.01,
            rank=20,
            sigma=sigma,
            layer="middle",
            image_index=0,
            iterations=1,
            seed=0,
        )

    def steered(self, model: Link, strength: float, directions: Link | None = None) -> Link:
        """Steer along it, at every level."""
        return self.g.out(
            "HSpaceSteer",
            model=model,
            directions=directions or [self.directions(), 0],
            strength=strength,
            direction=1,
            sigma_start=200.0,
            sigma_end=0.0,
            normalise="none",
        )

    def ksampler(self, model: Link, positive: Link, latent: Link) -> Link:
        """Stock KSampler, or KSampler (Advanced) in two halves."""
        inputs = {
            "model": model,
            "steps": self.steps,
            "cfg": CFG,
            "sampler_name": "euler",
            "scheduler": "karras",
            "positive": positive,
            "negative": self.negative,
        }
        if self.mechanism is None or self.mechanism.sampling != "halves":
            return self.g.out("KSampler", seed=SEED, latent_image=latent, denoise=1.0, **inputs)
        half, same = self.steps // 2, {"noise_seed": SEED}
        early = {"add_noise": "enable", "start_at_step": 0, "end_at_step": half, "return_with_leftover_noise": "enable"}
        late = {
            "add_noise": "disable",
            "start_at_step": half,
            "end_at_step": 10000,
            "return_with_leftover_noise": "disable",
        }
        first = self.g.out("KSamplerAdvanced", latent_image=latent, **inputs, **same, **early)
        return self.g.out("KSamplerAdvanced", latent_image=first, **inputs, **same, **late)

    def custom(self, guider: Link, sampler: Link, sigmas: Link, latent: Link, noise: bool = False) -> Link:
        """Stock SamplerCustomAdvanced, or two of them."""
        source = self.g.out("RandomNoise", noise_seed=SEED) if noise else self.g.out("DisableNoise")
        links: dict[str, Any] = {"guider": guider, "sampler": sampler}
        if self.mechanism is None or self.mechanism.sampling != "halves":
            return self.g.out("SamplerCustomAdvanced", noise=source, sigmas=sigmas, latent_image=latent, **links)
        split = self.g.add("SplitSigmas", sigmas=sigmas, step=self.steps // 2)
        first = self.g.out("SamplerCustomAdvanced", noise=source, sigmas=[split, 0], latent_image=latent, **links)
        return self.g.out(
            "SamplerCustomAdvanced", noise=self.g.out("DisableNoise"), sigmas=[split, 1], latent_image=first, **links
        )

    def guider(self, model: Link, positive: Link | None = None, cfg: float = CFG) -> Link:
        """Stock CFGGuider."""
        return self.g.out("CFGGuider", model=model, positive=positive or self.prompt(), negative=self.negative, cfg=cfg)

    def euler(self) -> Link:
        """Stock SAMPLER."""
        return self.g.out("KSamplerSelect", sampler_name="euler")


def plain(world: World) -> World:
    """The same graph without the mechanism (directions come from one picture)."""
    return World(None, again=world.again, g=world.g)
