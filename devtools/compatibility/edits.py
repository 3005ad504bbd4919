"""Our nodes, each in the graph in which it is used, on a small random U-Net and latents of 8x8.

An edit builds one graph in three forms: ``absent`` (what the mechanism alone gives, or the picture that has to come
back), ``neutral`` (our node at strength 0) and ``on``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .graph import Link
from .world import AS_IT_IS, CFG, EPSILON, LATENT_SCALE, TOP, World

TRAINED = "hspace_test.safetensors"


@dataclass(frozen=True)
class Edit:
    """One row of the table.

    Attributes:
        name: as the editor shows it.
        node: its id, whose sockets decide which mechanisms can be connected.
        build: world and form -> what to look at.
        where: on which MODEL the mechanism is, in words.
        sockets: mechanisms that can be connected: "positive", "latent", "sampling".
        tolerance: rounding of what comes back by itself, relative.
        orders: the mechanism can also stand behind it.
        twice: two runs with the mechanism are compared; not where the way back is the second one.
        compare: of what the three forms give, where neutral is not to equal absent.
    """

    name: str
    node: str
    build: Callable[[World, str], Link]
    where: str
    sockets: frozenset[str]
    tolerance: float = 2e-5
    orders: bool = False
    compare: Callable[[Any, Any, Any], float] | None = None
    twice: bool = True


def _invert(w: World, form: str) -> Link:
    if form == "absent":
        return w.clean
    inverted = w.inverted(w.base, method="edict")
    if form == "on":
        return [inverted, 1]
    sampler = w.g.add("HSpaceSampleExactInversion", trajectory=[inverted, 0])
    return w.custom(w.guider(w.base), [sampler, 0], [sampler, 1], w.clean, noise=True)


def _edit_friendly(w: World, form: str) -> Link:
    if form == "absent":
        return w.clean
    model = w.base
    inverted = w.g.add(
        "HSpaceEditFriendlyInversion",
        model=model,
        image=w.picture,
        sigmas=w.sigmas,
        cfg=CFG,
        seed=0,
        solver="ddpm",
        positive=w.prompt(),
        negative=w.negative,
        vae=w.vae,
        levels_at_once=1,
        noise_shift=0.0,
        fit=AS_IT_IS,
    )
    sampler = w.g.add(
        "HSpaceSampleEditFriendly",
        trajectory=[inverted, 0],
        skip=0,
        strength=1.0,
        shift_x=0,
        shift_y=0,
        clip_last=0.0,
        source_row=False,
    )
    positive = w.prompt(2) if form == "on" else w.prompt()
    return w.custom(w.guider(model, positive), [sampler, 0], [sampler, 1], w.latent, noise=True)


def _resume(w: World, form: str) -> Link:
    path = [_batch(w).inverted(), 0]
    sampler = w.g.add("HSpaceResumeTrajectory", trajectory=path, asymmetric=form != "absent", eta=0.0, direct=True)
    model = w.base if form == "absent" else w.edited(lambda m: w.steered(m, 20.0 if form == "on" else 0.0))
    return w.custom(w.guider(model), [sampler, 0], [sampler, 1], w.latent, noise=True)


def _render(w: World, form: str) -> Link:
    model = w.base if form == "absent" else w.edited(lambda m: w.steered(m, 20.0 if form == "on" else 0.0))
    return w.g.out(
        "HSpaceRenderTrajectory",
        output=2,
        model=model,
        trajectory=[w.inverted(), 0],
        asymmetric=form != "absent",
        protect=0.0,
        eta=0.0,
        seed=0,
        vae=w.vae,
    )


def _steer(w: World, form: str) -> Link:
    model = w.base if form == "absent" else w.edited(lambda m: w.steered(m, 20.0 if form == "on" else 0.0))
    return w.ksampler(model, w.prompt(), w.latent)


def _trained(w: World, form: str) -> Link:
    def edit(model: Link) -> Link:
        trained = w.g.out("HSpaceLoadTrained", file=TRAINED)
        return w.g.out(
            "HSpaceSteerTrained", model=model, trained=trained, strength=1.0 if form == "on" else 0.0, sigma_end=0.0
        )

    return w.ksampler(w.base if form == "absent" else w.edited(edit), w.prompt(), w.latent)


def _p2p(w: World, form: str) -> Link:
    pair = w.g.add("HSpaceTestPair", network="sd15", targets=1)
    rows = w.masked(w.g.out("HSpacePairLatent", latent=w.clean, rows=2))

    def edit(model: Link) -> Link:
        on = form == "on"
        model = w.g.out(
            "HSpacePromptToPrompt",
            model=model,
            tokens=[pair, 1],
            mode="replace",
            cross_end=0.8 if on else 0.0,
            self_end=0.5 if on else 0.0,
            reweights="",
            windows="",
            self_resolution="all",
        )
        if not on:
            return model
        return w.g.out(
            "HSpaceP2PLocalBlend", model=model, tokens=[pair, 1], words="cat, dog", threshold=0.6, start=0.2, without=""
        )

    return w.ksampler(w.base if form == "absent" else w.edited(edit), w.conditioned([pair, 0]), rows)


def _features(w: World, form: str) -> Link:
    inverted = _batch(w).inverted()

    def edit(model: Link) -> Link:
        tau = 0.8 if form == "on" else 0.0
        return w.g.out(
            "HSpaceInjectFeatures", model=model, trajectory=[inverted, 0], preset="PnP", tau_f=tau, tau_A=tau, start=0.0
        )

    model = w.base if form == "absent" else w.edited(edit)
    sampler = w.g.add("HSpaceResumeTrajectory", trajectory=[inverted, 0], asymmetric=False, eta=0.0, direct=False)
    return w.custom(w.guider(model, w.prompt(2)), [sampler, 0], [sampler, 1], w.latent, noise=True)


def _concepts(w: World, form: str) -> Link:
    more: dict[str, Any] = {}
    if form != "absent":
        scale = 3.0 if form == "on" else 0.0
        concept = w.g.out(
            "HSpaceEditConcept",
            conditioning=w.prompt(2),
            scale=scale,
            threshold=0.7,
            reverse=False,
            warm_up=0.0,
            cool_down=1.0,
        )
        more = {"concepts": concept}
    guider = w.g.out("HSpaceConceptEditGuider", model=w.base, negative=w.prompt(), **more)
    return w.custom(guider, w.euler(), w.sigmas, w.latent, noise=True)


def _morph(w: World, form: str) -> Link:
    """The frame in the middle, or the first one, which has to be the reconstruction of the first picture."""
    ends = [w.inverted(w.base), w.inverted(w.base, w.second)]
    if form == "absent":
        return [ends[0], 2]
    frames = w.g.out(
        "HSpaceMorphFrames",
        model=w.base,
        first=[ends[0], 0],
        second=[ends[1], 0],
        frames=3,
        alphas="",
        attention=0.6,
        adain=True,
        vae=w.vae,
        lora_mode="delta",
        batch=4,
    )
    return w.g.out("ImageFromBatch", image=frames, batch_index=1 if form == "on" else 0, length=1)


def _discover(w: World, form: str) -> Link:
    """Directions; or what one step of a stock sampler makes of the state, with them and without."""
    directions = [w.directions(w.base, w.inverted(), sigma=TOP), 0]
    if form == "on":
        return directions
    sampler, sigmas = w.euler(), w.g.out("ManualSigmas", sigmas=f"{TOP}, 0.0")
    model = w.steered(w.base, EPSILON if form == "neutral" else 0.0, directions)
    return w.custom(w.guider(model), sampler, sigmas, [w.inverted(), 1])


def _response(directions: dict, moved: dict, still: dict) -> float:
    """How far the response that the directions promise is from the one that the sampler shows, relative."""
    seen = float((moved["samples"] - still["samples"])[:1].norm()) * LATENT_SCALE / EPSILON
    return abs(seen / float(directions["gain"][0, 0]) - 1)


def _batch(w: World) -> World:
    """A world for the inversion whose prompts are those of the guider: the mechanism acts in the sampler alone."""
    return World(w.mechanism if w.batch else None, again=w.again, least=w.steps, g=w.g)


ALL = frozenset({"positive", "latent", "sampling"})
EDITS: tuple[Edit, ...] = (
    Edit(
        "Invert Image",
        "HSpaceInvertImage",
        _invert,
        "on the MODEL of the inversion (EDICT) and of the way back",
        frozenset({"positive"}),
        1e-3,
        twice=False,
    ),
    Edit(
        "Edit-Friendly",
        "HSpaceSampleEditFriendly",
        _edit_friendly,
        "on the MODEL of the inversion and of the sampler",
        ALL,
        1e-4,
        twice=False,
    ),
    Edit(
        "Resume Trajectory",
        "HSpaceResumeTrajectory",
        _resume,
        "on the sampler's MODEL, after a plain inversion",
        ALL,
        orders=True,
    ),
    Edit(
        "Render Trajectory",
        "HSpaceRenderTrajectory",
        _render,
        "on Render's MODEL, after a plain inversion",
        frozenset({"positive"}),
        orders=True,
    ),
    Edit("Steer", "HSpaceSteer", _steer, "on KSampler's MODEL", ALL, orders=True),
    Edit("Steer With Trained Edit", "HSpaceSteerTrained", _trained, "on KSampler's MODEL", ALL, orders=True),
    Edit("Prompt-to-Prompt, Local Blend", "HSpacePromptToPrompt", _p2p, "on KSampler's MODEL", ALL, orders=True),
    Edit(
        "Inject Features",
        "HSpaceInjectFeatures",
        _features,
        "on the sampler's MODEL, after a plain inversion",
        ALL,
        orders=True,
    ),
    Edit("Edit Concept", "HSpaceConceptEditGuider", _concepts, "on the guider's MODEL", ALL),
    Edit(
        "Morph Frames",
        "HSpaceMorphFrames",
        _morph,
        "on the MODEL of both inversions and of Morph Frames",
        frozenset({"positive"}),
        2e-3,
        twice=False,
    ),
    Edit(
        "Discover Directions",
        "HSpaceDiscoverRegion",
        _discover,
        "on Discover's MODEL, after a plain inversion",
        frozenset({"positive"}),
        2e-2,
        compare=_response,
        twice=False,
    ),
)
