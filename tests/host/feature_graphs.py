"""Graphs that inject features of a trajectory, or resume it directly."""

from .graphs import custom_sampler, face, invert, node
from .pair_graphs import SOURCE, TARGET
from .text_graphs import text_model

STEPS = 6


def inverted(iterations: int = 30) -> dict:
    """A picture inverted with its prompt on the face text model, nearly exactly."""
    prompt = text_model() | {"face": face(35)}
    prompt |= {
        "source": node("CLIPTextEncode", clip=["model", 1], text=SOURCE),
        "target": node("CLIPTextEncode", clip=["model", 1], text=TARGET),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=STEPS, denoise=1.0),
        "invert": invert(
            "face", "sigmas", "fixed point", iterations=iterations, positive=["source", 0], vae=["model", 2]
        ),
        "noise": node("DisableNoise"),
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False, eta=0.0),
    }
    return prompt


def inject(preset: str, model=("model", 0), trajectory=("invert", 0), **options) -> dict:
    inputs = {"tau_f": -1.0, "tau_A": -1.0, **options}
    return node("HSpaceInjectFeatures", model=list(model), trajectory=list(trajectory), preset=preset, **inputs)


def resumed(
    model, positive, cfg: float = 1.0, latent=("invert", 1), sampler=("resume", 0), sigmas=("resume", 1)
) -> dict:
    """Guider and stock sampler along the trajectory."""
    name = "-".join([model, positive, str(cfg), sampler[0], latent[0]])
    return {
        f"guider {name}": node(
            "CFGGuider", model=[model, 0], positive=[positive, 0], negative=["negative", 0], cfg=cfg
        ),
        f"out {name}": custom_sampler("noise", f"guider {name}", list(sampler), list(sigmas), list(latent)),
    }


def out(prompt: dict) -> str:
    return next(reversed(prompt))


def small(network: str) -> dict:
    """A small random U-Net, a picture of noise in its latents, and the inversion of it."""
    return {
        "model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=0),
        "vae": node("HSpaceTestVAE", network="tiny"),
        "picture": node("HSpaceTestPicture", case="noise", width=128, height=96),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=5, denoise=0.5),
        "invert": invert("picture", "sigmas", "fixed point", iterations=40, vae=["vae", 0], positive=["model", 1]),
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False, eta=0.0),
        "noise": node("DisableNoise"),
        **{
            name: node(
                "ConditioningAverage",
                conditioning_to=["model", i],
                conditioning_from=["model", j],
                conditioning_to_strength=w,
            )
            for name, i, j, w in (("source", 1, 2, 1.0), ("target", 2, 1, 1.0), ("negative", 1, 2, 0.5))
        },
    }
