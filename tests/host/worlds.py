"""The embedded models with all that a node may be given, as objects for :meth:`devtools.executor.Executor.call`; and
one call of every node that asks a network, so that a rule can be held against all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from .graphs import AS_IT_IS, FACE, face, node

FEW = {"k": 2, "mode": "generalized", "tau": 0.01, "rank": 20, "sigma": 1.6}
PROMPTS = {"source": "a person", "target": "a smiling person"}


class World:
    """The face model, or that with prompts (``text``)."""

    def __init__(self, executor, text: bool = False, steps: int = 4):
        self.executor, self.text = executor, text
        prompt = {
            "model": node("HSpaceLoadFaceTextModel" if text else "HSpaceLoadFaceModel"),
            FACE: face(35),
            "embedder": node("HSpaceLoadFaceEmbedder"),
            "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=1.0),
        }
        wanted = ["model", FACE, "sigmas", "embedder"]
        if text:
            prompt |= {
                k: node("CLIPTextEncode", clip=["model", 1], text=t) for k, t in (("on", "a person"), ("off", ""))
            }
            wanted += ["on", "off"]
        outputs = dict(zip(wanted, executor.run(prompt, *wanted), strict=True))
        self.model, self.clip = outputs["model"][:2]
        self.vae = outputs["model"][2 if text else 1]
        self.image, self.mask = outputs[FACE][:2]
        self.sigmas = outputs["sigmas"][0]
        self.embedder = outputs["embedder"][0]
        self.positive, self.negative = (outputs["on"][0], outputs["off"][0]) if text else (None, None)

    def call(self, kind: str, **inputs: Any) -> tuple[Any, ...]:
        """One node."""
        return self.executor.call(kind, **inputs)

    @property
    def prompts(self) -> dict:
        """For the nodes that take prompts."""
        return {"positive": self.positive} if self.text else {}

    def inverted(self, model=None, method: str = "fixed point", **options: Any) -> tuple:
        """Invert Image."""
        rounds = {"iterations": 1} if method == "fixed point" else {}
        return self.call("HSpaceInvertImage", method=method, **rounds, **self._picture(model, **options))

    def noised(self, model=None, **options: Any) -> tuple:
        """Edit-Friendly Inversion."""
        return self.call("HSpaceEditFriendlyInversion", seed=0, solver="ddpm", **self._picture(model, **options))

    def _picture(self, model, **options: Any) -> dict:
        links = {"model": model or self.model, "image": self.image, "sigmas": self.sigmas, "vae": self.vae}
        return {**links, **self.prompts, **AS_IT_IS, **options}

    def sampled(self, model, sampler, sigmas, guider=None) -> Any:
        """SamplerCustomAdvanced, decoded."""
        if guider is None:
            conditioning = self.positive or self.executor.module("nodes.host.model.pixel_model").no_conditioning()
            (guider,) = self.call("BasicGuider", model=model, conditioning=conditioning)
        (noise,) = self.call("DisableNoise")
        latent = {"samples": torch.zeros(1, 3, 64, 64)}
        out, _ = self.call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
        )
        return out["samples"]

    @cached_property
    def path(self) -> dict:
        """HSPACE_TRAJECTORY."""
        return self.inverted()[0]

    @cached_property
    def exact(self) -> dict:
        """That of EDICT."""
        return self.inverted(method="edict")[0]

    @cached_property
    def noises(self) -> dict:
        """That of Edit-Friendly Inversion."""
        return self.noised()[0]

    @cached_property
    def directions(self) -> dict:
        """HSPACE_DIRECTIONS of the mouth."""
        return self.call(
            "HSpaceDiscoverRegion", model=self.model, trajectory=self.path, mask=self.mask, **FEW, iterations=1
        )[0]

    @cached_property
    def state_directions(self) -> dict:
        """Those of the state."""
        return baseline(self, self.model, "LOCO Edit (x)")[0]

    @cached_property
    def concepts(self) -> dict:
        """HSPACE_CONCEPTS."""
        dials = {"scale": 5.0, "threshold": 0.9, "warm_up": 0.0, "cool_down": 1.0, "reverse": False}
        return self.call("HSpaceEditConcept", conditioning=self.positive, **dials)[0]

    @cached_property
    def rectifier(self) -> dict:
        """HSPACE_RECTIFIER after one step."""
        return self.call("HSpaceTrainRectifier", model=self.model, trajectory=self.path, steps=1, batch=1, lr=1e-4)[0]

    @cached_property
    def trained(self) -> dict:
        """HSPACE_DELTA after one epoch."""
        return asyrp(self, self.model)[0]


def baseline(w: World, model, method: str) -> tuple:
    """Baseline Directions, with what the method has a use for."""
    path, used = w.path, {"iterations": 1}
    if method == "LOCO Edit (x)":
        used |= {"mask": w.mask, "rank": 1}
    if method == "PCA of h":
        path, used = w.inverted(image=w.image.repeat(3, 1, 1, 1))[0], {}
    dials = {"k": 1, "rank": 5, "sigma": 1.6, **used}
    return w.call("HSpaceBaselineDirections", model=model, trajectory=path, method=method, **dials)


def asyrp(w: World, model, **options: Any) -> tuple:
    """Train Asyrp, briefly."""
    dials = {"sigma_edit": 1.0, "epochs": 1, "batch": 1, "lr": 1e-3, "optimiser": "adam"}
    inputs = {"trajectory": w.path, "embedder": w.embedder, **PROMPTS, **dials, **options}
    return w.call("HSpaceTrainAsyrp", model=model, **inputs)


def rectifier_edit(w: World, model, **options: Any) -> tuple:
    """Train Rectifier Edit, briefly."""
    links = {"trajectory": w.path, "rectifier": w.rectifier, "embedder": w.embedder}
    dials = {"sigma_start": 3.0, "steps": 1, "batch": 1, "lr": 1e-4}
    return w.call("HSpaceTrainRectifierEdit", model=model, **{**links, **PROMPTS, **dials, **options})


def steer(w: World, model, **options: Any) -> tuple:
    """Steer by the mouth."""
    dials = {"strength": 5.0, "direction": 1, "sigma_start": 0.0, "sigma_end": 0.1}
    return w.call("HSpaceSteer", model=model, **{"directions": w.directions, **dials, **options})


def render(w: World, model, **options: Any) -> tuple:
    """Render Trajectory."""
    inputs = {"trajectory": w.path, "asymmetric": False, "protect": 0.0, "vae": w.vae, **options}
    return w.call("HSpaceRenderTrajectory", model=model, **inputs)


def look(kind: str, w: World, model, **options: Any) -> tuple:
    """A node that looks for directions of the mouth."""
    return w.call(kind, model=model, trajectory=w.path, **{"mask": w.mask, **FEW, "iterations": 1, **options})


def region_basis(w: World, model, **options: Any) -> tuple:
    """Region Basis of the mouth."""
    inputs = {"mask": w.mask, "max_k": 1, "max_rank": 0, "sigma": 1.6, "iterations": 1, **options}
    return w.call("HSpaceRegionBasis", model=model, trajectory=w.path, **inputs)


def track(w: World, model, **options: Any) -> tuple:
    """Track Directions of the mouth."""
    few = {name: value for name, value in FEW.items() if name != "sigma"}
    levels = {"sigma_start": 6.0, "sigma_end": 1.0, "levels": 2}
    inputs = {"mask": w.mask, **few, **levels, "iterations": 1, **options}
    return w.call("HSpaceTrackDirections", model=model, trajectory=w.path, **inputs)


def discover_everywhere(w: World, model, **lists: Any) -> tuple:
    """Global Directions, which takes lists."""
    inputs = {name: [value] for name, value in {**FEW, "how": "match", "iterations": 1, "mask": w.mask}.items()}
    return w.call("HSpaceGlobalDirections", model=[model], **{"trajectory": [w.path], **inputs, **lists})


def atlas(w: World, model, **options: Any) -> tuple:
    """Direction Atlas, small."""
    dials = {"strength": 15.0, "columns": 3, "count": 1, "vae": w.vae, **options}
    return w.call("HSpaceDirectionAtlas", model=model, trajectory=w.path, directions=w.directions, **dials)


def difference(w: World, model, negative) -> tuple:
    """Mean Difference of two trajectories."""
    return w.call("HSpaceMeanDifference", model=model, positive=w.path, negative=negative, sigma=1.6)


def edit_state(w: World, model, **options: Any) -> tuple:
    """Edit State."""
    dials = {"strength": 1.0, "direction": 1, "how": "guidance", "repeats": 1}
    inputs = {"directions": w.state_directions, **dials, **options}
    return w.call("HSpaceEditState", model=model, trajectory=w.path, **inputs)


def domain(w: World, model, **options: Any) -> tuple:
    """Into The Domain."""
    few = {"sigma": 3.0, "steps": 2, "repeats": 1, "seed": 0}
    inputs = {"image": w.image, "vae": w.vae, **few, **w.prompts, **AS_IT_IS, **options}
    return w.call("HSpaceIntoDomain", model=model, **inputs)


def sample_concepts(w: World, model, **options: Any) -> Any:
    """A stock sampler with Concept Edit Guider."""
    (guider,) = w.call("HSpaceConceptEditGuider", model=model, negative=w.negative, concepts=w.concepts, **options)
    (inner,) = w.call("KSamplerSelect", sampler_name="euler")
    return w.sampled(model, inner, w.sigmas, guider)


def inject(w: World, model, **options: Any) -> tuple:
    """Inject Features."""
    dials = {"preset": "PnP", "tau_f": -1.0, "tau_A": -1.0}
    return w.call("HSpaceInjectFeatures", model=model, trajectory=w.path, **dials, **options)


def morph(w: World, model, second) -> tuple:
    """Morph Frames to another trajectory."""
    dials = {"frames": 3, "alphas": "", "attention": 0.6, "adain": True, "lora_mode": "delta", "batch": 4}
    return w.call("HSpaceMorphFrames", model=model, first=w.path, second=second, vae=w.vae, **dials)


def null_text(w: World, model, **options: Any) -> tuple:
    """Null-Text Optimise, briefly."""
    inputs = {"positive": w.positive, "negative": w.negative, "cfg": 3.0, "inner_steps": 1, **options}
    return w.call("HSpaceNullTextOptimise", model=model, trajectory=w.path, **inputs)


def image_lora(w: World, model, **options: Any) -> tuple:
    """Fit Image LoRA, briefly."""
    dials = {"steps": 1, "rank": 1, "lr": 1e-3, "seed": 0}
    inputs = {"image": w.image, "positive": w.positive, "vae": w.vae, **dials, **options}
    return w.call("HSpaceFitImageLora", model=model, **inputs)


def _resumed(w: World, model) -> Any:
    sampler, sigmas = w.call("HSpaceResumeTrajectory", trajectory=w.path, asymmetric=False)
    return w.sampled(model, sampler, sigmas)


def _steered(w: World, model) -> Any:
    return render(w, steer(w, model)[0], asymmetric=True, protect=1.0, mask=w.mask)


def _repeated(w: World, model) -> Any:
    (inner,) = w.call("KSamplerSelect", sampler_name="euler")
    return w.sampled(model, w.call("HSpaceSDEditRepeat", sampler=inner, repeats=2, noise="new")[0], w.sigmas)


def _injected(w: World, model) -> Any:
    (inner,) = w.call("KSamplerSelect", sampler_name="euler")
    return w.sampled(inject(w, model)[0], inner, w.sigmas)


def _rectified(w: World, model) -> Any:
    inputs = {"trajectory": w.path, "rectifier": w.rectifier, "strength": 1.0}
    return render(w, w.call("HSpaceApplyRectifier", model=model, **inputs)[0])


Recipe = Callable[[World, Any], Any]

EVERY: dict[str, Recipe] = {
    "Invert Image, fixed point": lambda w, m: w.inverted(m),
    "Invert Image, ddim A": lambda w, m: w.inverted(m, "ddim A"),
    "Invert Image, ddim B": lambda w, m: w.inverted(m, "ddim B"),
    "Invert Image, edict": lambda w, m: w.inverted(m, "edict"),
    "Invert Image, bdia": lambda w, m: w.inverted(m, "bdia"),
    "Edit-Friendly Inversion": lambda w, m: w.noised(m),
    "Render Trajectory": render,
    "Steer, Render Trajectory": _steered,
    "Resume Trajectory": _resumed,
    "Sample Exact Inversion": lambda w, m: w.sampled(m, *w.call("HSpaceSampleExactInversion", trajectory=w.exact)),
    "Sample Edit-Friendly": lambda w, m: w.sampled(m, *w.call("HSpaceSampleEditFriendly", trajectory=w.noises, skip=0)),
    "SDEdit Repeat": _repeated,
    "Discover": lambda w, m: look("HSpaceDiscoverRegion", w, m),
    "Region Basis": region_basis,
    "Direction Atlas": atlas,
    "Track Directions": track,
    "Global Directions": discover_everywhere,
    "Baseline, LOCO": lambda w, m: baseline(w, m, "LOCO Edit (x)"),
    "Baseline, pullback": lambda w, m: baseline(w, m, "pullback (x)"),
    "Baseline, PCA": lambda w, m: baseline(w, m, "PCA of h"),
    "Mean Difference": lambda w, m: difference(w, m, w.inverted(image=w.image.flip(2))[0]),
    "Edit State": edit_state,
    "Into The Domain": domain,
    "Asyrp Levels": lambda w, m: w.call(
        "HSpaceAsyrpLevels", model=m, trajectory=w.path, embedder=w.embedder, **PROMPTS
    ),
    "Mean Trained Edit": lambda w, m: w.call(
        "HSpaceMeanTrained", model=m, trajectory=w.path, trained=w.trained, one=False
    ),
    "Train Asyrp": asyrp,
    "Train Rectifier": lambda w, m: w.call(
        "HSpaceTrainRectifier", model=m, trajectory=w.path, steps=1, batch=1, lr=1e-4
    ),
    "Train Rectifier Edit": rectifier_edit,
    "Apply Rectifier": _rectified,
}
"""By name, with a MODEL in place of that of the world: whatever asks the face model's network through the host."""

EVERY_TEXT: dict[str, Recipe] = {
    "Concept Edit Guider": sample_concepts,
    "Inject Features": _injected,
    "Morph Frames": lambda w, m: morph(w, m, w.inverted(image=w.image.flip(2))[0]),
    "Null-Text Optimise": null_text,
    "Fit Image LoRA": image_lora,
}
"""Those that need prompts or a U-Net of the host."""


def watched(model, change: Callable[[float, torch.Tensor], torch.Tensor]):
    """A clone of MODEL each of whose network outputs goes through ``change(sigma, output)``."""
    clone = model.clone()

    def wrapper(apply, given: dict) -> torch.Tensor:
        return change(float(given["timestep"].max()), apply(given["input"], given["timestep"], **given["c"]))

    clone.set_model_unet_function_wrapper(wrapper)
    return clone
