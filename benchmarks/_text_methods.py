"""Text-guided editing methods as graphs, for ``text_editing.py``.

The settings are those of the papers or of PIE-Bench's comparison (arXiv 2310.01506), with steps as shares of all steps;
cfg and the number of steps are the same for all. TurboEdit has no row: it corrects the noise of models distilled to 3
or 4 steps, which these are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from core.measure.pie_folder import PieItem

Graph = dict[str, dict]
SAVE = "save"


@dataclass(frozen=True)
class Setup:
    """What all graphs share.

    Attributes:
        loader: the node that gives MODEL, CLIP, VAE.
        steps: of every sampler.
        cfg: of every edit.
        seed: of every sampler that draws noise.
        small: the face model: its latent is so coarse that Prompt-to-Prompt takes shapes at half of it.
    """

    loader: dict
    steps: int = 20
    cfg: float = 3.0
    seed: int = 0
    small: bool = True

    def share(self, of_steps: float) -> int:
        """Steps that are a share of all."""
        return round(of_steps * self.steps)


Method = Callable[[PieItem, Setup], Graph]


def node(kind: str, **inputs) -> dict:
    """One node of a graph."""
    return {"class_type": kind, "inputs": inputs}


def prompt(text: str) -> dict:
    """A text as CONDITIONING."""
    return node("CLIPTextEncode", clip=["model", 1], text=text)


def schedule(setup: Setup, scheduler: str = "karras", denoise: float = 1.0) -> dict:
    """SIGMAS."""
    return node("BasicScheduler", model=["model", 0], scheduler=scheduler, steps=setup.steps, denoise=denoise)


def base(item: PieItem, setup: Setup) -> Graph:
    """Model, picture, prompts and sigmas; no method is told the mask."""
    return {
        "model": setup.loader,
        "image": node("LoadImage", image=f"{item.key}.png"),
        "source": prompt(item.source_prompt),
        "target": prompt(item.target_prompt),
        "empty": prompt(""),
        "latent": node("VAEEncode", pixels=["image", 0], vae=["model", 2]),
        "sigmas": schedule(setup),
        "nothing": node("DisableNoise"),
    }


def inverted(method: str = "ddim B", **options) -> Graph:
    """The picture's trajectory under the source prompt."""
    links = {
        "model": ["model", 0],
        "image": ["image", 0],
        "sigmas": ["sigmas", 0],
        "vae": ["model", 2],
        "positive": ["source", 0],
    }
    return {"invert": node("HSpaceInvertImage", **links, negative=["empty", 0], method=method, iterations=1, **options)}


def resumed(direct: bool = False) -> dict:
    """Back along the trajectory; ``direct``: with the source row held on it."""
    return node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False, eta=0.0, direct=direct)


def sampled(setup: Setup, sampler: dict, guider: dict | None = None, /, **links: list) -> Graph:
    """The stock sampler with the target prompt, down to the file that is measured.

    Args:
        setup: see :class:`Setup`.
        sampler: node whose first two outputs are SAMPLER and SIGMAS.
        guider: instead of CFGGuider.
        links: other model, positive, negative, noise, sigmas or latent_image.
    """
    asks = {"model": ["model", 0], "positive": ["target", 0], "negative": ["empty", 0]}
    runs = {"noise": ["nothing", 0], "sigmas": ["sampler", 1], "latent_image": ["invert", 1]}
    asks |= {key: link for key, link in links.items() if key in asks}
    runs |= {key: link for key, link in links.items() if key not in asks}
    return {
        "sampler": sampler,
        "guider": guider or node("CFGGuider", **asks, cfg=setup.cfg),
        "sample": node("SamplerCustomAdvanced", guider=["guider", 0], sampler=["sampler", 0], **runs),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["model", 2]),
        SAVE: node("SaveImage", images=["decode", 0], filename_prefix="text_editing"),
    }


PAIR = {"model": ["edited", 0], "positive": ["pair", 0], "latent_image": ["rows", 0]}
"""Links of a sampler to :func:`paired`."""


def paired(item: PieItem, setup: Setup, blend: bool = True) -> Graph:
    """Source and target as two rows with Prompt-to-Prompt, as in PIE-Bench's comparison: blended words say where, and
    count twice.

    Without ``blend`` they only count twice.
    """
    tokens, known = ["pair", 1], {*item.source_prompt.split(), *item.target_prompt.split()}
    blended = [word for word in item.blended_word.split() if word in known]
    twice = [f"{word}: 2" for word in blended[-1:] if word in item.target_prompt.split()]
    dials = {
        "mode": "refine",
        "cross_end": 0.4,
        "self_end": 0.6,
        "self_resolution": "half" if setup.small else "quarter",
    }
    words = node("HSpacePromptToPrompt", model=["model", 0], tokens=tokens, reweights="".join(twice), **dials)
    where = {"words": ", ".join(blended), "threshold": 0.8 if setup.small else 0.3, "start": 0.2}
    return {
        "pair": node(
            "HSpacePairConditioning", clip=["model", 1], source=item.source_prompt, targets=item.target_prompt
        ),
        "rows": node("HSpacePairLatent", latent=["invert", 1], rows=2),
        "words": words,
        "edited": node("HSpaceP2PLocalBlend", model=["words", 0], tokens=tokens, **where)
        if blended and blend
        else words,
    }


def ddim(item: PieItem, setup: Setup) -> Graph:
    """DDIM inversion under the source prompt, then the stock sampler with the target prompt."""
    euler = node("KSamplerSelect", sampler_name="euler")
    return {**inverted(), **sampled(setup, euler, sigmas=["sigmas", 0])}


def p2p(direct: bool = False, blend: bool = True, **links: list) -> Method:
    """Prompt-to-Prompt on the DDIM inversion; DirectInversion if ``direct``, negative-prompt inversion with ``source``
    as negative."""
    return lambda item, setup: {
        **inverted(),
        **paired(item, setup, blend),
        **sampled(setup, resumed(direct), **PAIR | links),
    }


def null_text(item: PieItem, setup: Setup) -> Graph:
    """Prompt-to-Prompt with a negative prompt fitted to the picture."""
    links = {"model": ["model", 0], "trajectory": ["invert", 0], "positive": ["source", 0], "negative": ["empty", 0]}
    return {
        **p2p(negative=["null", 0])(item, setup),
        "null": node("HSpaceNullTextOptimise", **links, cfg=setup.cfg, inner_steps=10),
    }


def proximal(item: PieItem, setup: Setup) -> Graph:
    """Negative-prompt inversion whose guidance acts where the prompts differ most."""
    limited = node("HSpaceProximalCFG", model=["edited", 0], trajectory=["invert", 0], mode="hard", quantile=0.7)
    return {**p2p(negative=["source", 0], model=["proximal", 0])(item, setup), "proximal": limited}


def friendly(positive: str = "source", solver: str = "ddpm", **inputs) -> Graph:
    """Edit-friendly noises of the picture; the seed is that of the setup."""
    links = {
        "model": ["model", 0],
        "image": ["image", 0],
        "sigmas": ["sigmas", 0],
        "vae": ["model", 2],
        "positive": [positive, 0],
    }
    return {"invert": node("HSpaceEditFriendlyInversion", **links, cfg=1.0, solver=solver, **inputs)}


def with_noises(skip: int, **options) -> dict:
    """Down with the stored noises."""
    return node("HSpaceSampleEditFriendly", trajectory=["invert", 0], skip=skip, **options)


def edit_friendly(item: PieItem, setup: Setup) -> Graph:
    """The paper's skip (36 of 100 steps)."""
    return {**friendly(seed=setup.seed), **sampled(setup, with_noises(setup.share(0.36)))}


def edit_friendly_p2p(item: PieItem, setup: Setup) -> Graph:
    """PIE-Bench's skip (12 of 50 steps); the source row stays the picture."""
    down = with_noises(setup.share(0.24), source_row=True)
    return {**friendly(seed=setup.seed), **paired(item, setup), **sampled(setup, down, **PAIR)}


def phrases(marked: str) -> list[str]:
    """What stands inside of ``[]``, with the next word: ``[red] hair`` is ``red hair``, ``[glasses and] closed eyes``
    ``glasses``."""
    found = re.findall(r"\[([^\]]+)\](?: +(?!and\b)(\w+))?", marked)
    return [
        part if said.endswith(" and") else f"{part} {after}".strip()
        for said, after in found
        for part in [said.removeprefix("and ").removesuffix(" and")]
    ]


def ledits(item: PieItem, setup: Setup) -> Graph:
    """LEDITS++: towards what is marked in the target, away from what is marked in the source. Its own scale and
    threshold, skip 15%."""
    concepts = [(words, False) for words in phrases(item.target_marked)] + [
        (words, True) for words in phrases(item.source_marked)
    ]
    nodes, last = friendly("empty", "sde-dpm++2", seed=setup.seed), {}
    for i, (words, reverse) in enumerate(concepts or [(item.target_prompt, False)]):
        nodes[f"words {i}"] = prompt(words)
        nodes[f"concept {i}"] = node(
            "HSpaceEditConcept", conditioning=[f"words {i}", 0], scale=5.0, threshold=0.9, reverse=reverse, **last
        )
        last = {"previous": [f"concept {i}", 0]}
    guider = node("HSpaceConceptEditGuider", model=["model", 0], negative=["empty", 0], concepts=last["previous"])
    return {**nodes, **sampled(setup, with_noises(setup.share(0.15)), guider)}


def features(preset: str, start: float = 0.0) -> Method:
    """Features of the stored source states in every step from a share of them on."""

    def graph(item: PieItem, setup: Setup) -> Graph:
        links = {"model": ["model", 0], "trajectory": ["invert", 0]}
        inject = node("HSpaceInjectFeatures", **links, preset=preset, tau_f=-1.0, tau_A=-1.0, start=start)
        return {**inverted(), "inject": inject, **sampled(setup, resumed(), model=["inject", 0])}

    return graph


def exact(method: str) -> Method:
    """Inverted with the guidance of the edit, to 0.8 of the noise chain (paper of EDICT)."""

    def graph(item: PieItem, setup: Setup) -> Graph:
        down = node("HSpaceSampleExactInversion", trajectory=["invert", 0])
        return {"sigmas": schedule(setup, "normal", 0.8), **inverted(method, cfg=setup.cfg), **sampled(setup, down)}

    return graph


def sdedit(t0: float, repeats: int = 1) -> Method:
    """Noise up to a share of the chain and down with the paper's stochastic sampler, so many times."""

    def graph(item: PieItem, setup: Setup) -> Graph:
        links = {"sigmas": ["levels", 0], "noise": ["fresh", 0], "latent_image": ["latent", 0]}
        return {
            "levels": node("HSpaceSDEditSigmas", model=["model", 0], t0=t0, steps=setup.steps, spacing="uniform"),
            "fresh": node("RandomNoise", noise_seed=setup.seed),
            "ddpm": node("KSamplerSelect", sampler_name="ddpm"),
            **sampled(setup, node("HSpaceSDEditRepeat", sampler=["ddpm", 0], repeats=repeats, noise="new"), **links),
        }

    return graph


def flowedit(strength: float) -> Method:
    """The difference of the prompts without an inversion; a fifth of the steps is left out, cfg 1 for the source."""

    def graph(item: PieItem, setup: Setup) -> Graph:
        texts = {"source": item.source_prompt, "targets": item.target_prompt}
        links = {"positive": ["pair", 0], "latent_image": ["rows", 0], "noise": ["fresh", 0]}
        dials = {"strength": strength, "sigma_start": 1000.0, "source_cfg": 1.0}
        return {
            "pair": node("HSpacePairConditioning", clip=["model", 1], **texts),
            "rows": node("HSpacePairLatent", latent=["latent", 0], rows=2),
            "fresh": node("RandomNoise", noise_seed=setup.seed),
            "cut": node("SplitSigmas", sigmas=["sigmas", 0], step=setup.share(0.2)),
            **sampled(setup, node("HSpaceFlowEdit", sigmas=["cut", 1], **dials), **links),
        }

    return graph


def on_base(method: Method) -> Method:
    """A method with all that it links to."""
    return lambda item, setup: {**base(item, setup), **method(item, setup)}


_PARTS: dict[str, Method] = {
    "DDIM inversion": ddim,
    "DDIM + P2P": p2p(),
    "DirectInversion + P2P": p2p(direct=True),
    "null-text + P2P": null_text,
    "negative-prompt + P2P": p2p(negative=["source", 0]),
    "proximal CFG + P2P": proximal,
    "edit-friendly DDPM": edit_friendly,
    "edit-friendly + P2P": edit_friendly_p2p,
    "LEDITS++": ledits,
    "Plug-and-Play": features("PnP"),
    "MasaCtrl": features("MasaCtrl", 4 / 50),
    "EDICT": exact("edict"),
    "BDIA": exact("bdia"),
    "FlowEdit, dial 0.25": flowedit(0.25),
    "FlowEdit, dial 0.5": flowedit(0.5),
    "FlowEdit, dial 0.75": flowedit(0.75),
    "FlowEdit": flowedit(1.0),
    "SDEdit, t0 0.3": sdedit(0.3),
    "SDEdit, t0 0.3, K 3": sdedit(0.3, 3),
    "SDEdit, t0 0.5": sdedit(0.5),
}
METHODS = {name: on_base(method) for name, method in _PARTS.items()}
"""Name -> graph of one item; a node called ``save`` saves the edited picture, the last one of a batch."""
