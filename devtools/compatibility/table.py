"""The table: what every cell has to be. The last rule that speaks of a cell holds."""

from __future__ import annotations

from collections.abc import Collection

from .edits import EDITS, Edit
from .mechanisms import CACHES, MECHANISMS, PROMPTS, SAMPLING, WEIGHTS, Mechanism
from .verdicts import Verdict, can_connect

INVERT, FRIENDLY, RESUME, RENDER, STEER, TRAINED, P2P, FEATURE, CONCEPT, MORPH, DISCOVER = (edit.name for edit in EDITS)
EVERY = frozenset(edit.name for edit in EDITS)
SAMPLED = frozenset({RESUME, STEER, TRAINED, P2P, FEATURE})  # in a sampler, in either order
LOOKING = frozenset({INVERT, FRIENDLY, MORPH, DISCOVER, RENDER})  # at the network, outside of a sampler
KEPT = frozenset({RESUME, RENDER, FEATURE, DISCOVER})  # belong to a trajectory of the MODEL without the mechanism
HALVES, BATCH = "KSamplerAdvanced in two halves", "Batch of 3"


def _exact(test: str, why: str) -> Verdict:
    return Verdict("exact", test, why)


def _refused(why: str, *words: str, late: bool = False) -> Verdict:
    return Verdict("refused", "refused", why, words, late)


BOTH = _exact("order", "Both act, in whichever order the nodes stand.")
BACK = _exact("back", "What is inverted holds for the MODEL with it, and comes back through the same MODEL.")
FOUND = _exact(
    "back", "Directions are those of the network with it: the gain that they report is what a stock sampler shows."
)
ENDS = _exact(
    "back", "Both pictures are inverted on the MODEL with it, and the first frame is the reconstruction of the first."
)
BASE = _exact(
    "back", "It acts on the prediction that the concepts are added to; with scale 0 that is all that is left."
)
BESIDE = _exact("back", "Both act.")
HELD = _exact(
    "back",
    "The region outside is held at the stored states; without an edit the picture comes back inside and outside.",
)
NOTHING = _exact("without", "It does nothing to this MODEL, and nothing to our node.")
CLOSE = Verdict(
    "acts",
    "without",
    "The network computes in bfloat16: the directions and gain are those of float32 to its rounding, 15 % here.",
    tolerance=0.25,
)
ROUNDED = Verdict(
    "acts", "back", "The network computes in bfloat16: the picture comes back to its rounding.", tolerance=0.1
)
SAME = _exact("without", "The inversion runs the network as it is; compiled in the sampler it computes the same.")
EAGER = _exact("without", "Our node runs the network as it is, not compiled.")
FROZEN = _refused(
    "A compiled network keeps the patches of its first run: the edit would stand still, or be left out.",
    "TorchCompileModel",
)
OFF = _exact(
    "without", "A step cache is taken off where our nodes look at the network: what it answers is no prediction."
)
WAYBACK = _exact(
    "off", "A step cache lets every call through, on the way up and on the way back: what it answers is no prediction."
)
CACHED = _exact(
    "back", "The cache skips calls of the sampler; with our node at strength 0 the result is that of the cache alone."
)
IDLE = _exact(
    "without", "Its window (levels between 15 % and 95 % of the schedule) does not reach the levels of this run."
)
QUIET = _exact("without", "In these few steps the network's answers change too much for it to skip one.")
PARTS = _exact("without", "Windows are shares of the whole schedule: two halves give what one run gives.")
ALONE = _exact("without", "A picture in a batch of three is what it is alone.")
ONEOF = Verdict(
    "exact", "without", "Directions of a picture in a batch of three are those found for it alone.", tolerance=5e-4
)
TOGETHER = Verdict(
    "acts",
    "back",
    "The host's node takes one number for the whole batch: a frame is a little off what its picture is alone.",
    tolerance=0.05,
)
NOBATCH = _refused("Frames lie between two single pictures: invert them one by one.", "one picture", late=True)
DRAWN = _refused("It draws numbers inside of the network, which derivatives cannot follow.", "HyperTile", late=True)
SHAKY = _refused(
    "It draws random numbers, or keeps a memory from step to step, so that the network is no function of the state.",
    "differently each time",
    late=True,
)
UNCUT = _refused(
    "It asks the network once more, or mixes rows, outside of what can be cut at h.",
    "differs from the whole",
    late=True,
)
SHRUNK = _refused(
    "It changes the size of h, where the directions have another.",
    "PatchModelAddDownscale",
    "Context Windows",
    late=True,
)
AREA = _refused(
    "In the prompt's area h is smaller than the directions; Conditioning (Set Mask) will do.",
    "Conditioning (Set Area)",
    late=True,
)
WORDS = _refused(
    "P2P Local Blend with words reads maps of attention, which it shrinks.", "PatchModelAddDownscale", late=True
)
PARTLY = _refused(
    "Attention is looked at for the whole picture; Conditioning (Set Mask) will do.", "Set Area", late=True
)
WINDOWS = _refused("It cuts the picture into windows, and our node looks at the whole picture.", "Context Windows")
SINGLE = _refused(
    "The host's node takes one picture at a time; a pair, or the frames of a morph, are a batch.",
    "one picture at a time",
    late=True,
)
UNGUIDED = _exact("without", "It changes nothing where the guidance scale is 1, as it is in the Concept Edit Guider.")
SUMMED = _refused(
    "It asks the network once more with the positive prompt, and the guider has one for each concept.",
    "positive prompt",
    late=True,
)
OTHER = _refused("It makes another model, which the trajectory or the directions do not belong to.", "model")
WHOLE = _refused("A stored path is gone back in one run: its steps belong to the stored states.", "SIGMAS")
FLOW = _refused("It makes a flow model, and edit-friendly noises are drawn as x0 + sigma n.", "flow model")
NOAREA = _refused(
    "A prompt for a part of the picture cannot be cut at h.", "part of the picture", "Set Mask", late=True
)
NOSOCKET = _exact("socket", "Our node has no input that it could come through.")

TAKEN = _refused(
    "It asks the network for one positive and one negative prompt by itself, and the guider has several.",
    "SkipLayerGuidanceDiTSimple",
)
TURNED = _refused(
    "It turns the picture at the end of every sampler (1 - x), so that nothing comes back.", "img_to_img_flow"
)

_DIT = {"SkipLayerGuidanceDiT", "SkipLayerGuidanceDiTSimple", "SkipLayerGuidanceSD3"}
_KOHYA = {"PatchModelAddDownscale (after skip)", "PatchModelAddDownscale (before skip)"}
_RANDOM = {"TomePatchModel"}
_MEMORY = {"APG (momentum)"}
_EXTRA = {"PerturbedAttentionGuidance", "SelfAttentionGuidance", "NAGuidance", "PerpNeg", "CFGOverride"}
_FLOWS = {
    "ModelSamplingDiscrete (img_to_img_flow)",
    "ModelSamplingSD3",
    "ModelSamplingAuraFlow",
    "ModelSamplingFlux",
    "ModelSamplingLTXV",
}
_COMPILE, _EPS = {"TorchCompileModel (eager)"}, {"ModelSamplingDiscrete (eps)"}
_MASKS = {"SetLatentNoiseMask", "DifferentialDiffusion"}
_DEFAULTS = {"EasyCache (defaults)", "LazyCache (defaults)"}
_PARTIAL = {"ConditioningSetMask", "ConditioningSetAreaPercentage"}
_AREA, _ONE = {"ConditioningSetAreaPercentage"}, {"RenormCFG", "TemporalScoreRescaling"}
_ASKING = {"PerturbedAttentionGuidance", "SkipLayerGuidanceDiT", "SkipLayerGuidanceSD3"}
_SCALE = {
    "RescaleCFG",
    "CFGZeroStar",
    "CFGNorm (pre_cfg)",
    "TCFG",
    "Mahiro",
    "VideoLinearCFGGuidance",
    "VideoTriangleCFGGuidance",
}
_DTYPE = {"ModelComputeDtype (bf16)"}

RULES: tuple[tuple[Collection[str], Collection[str] | str, Verdict], ...] = (
    (EVERY, {m.name for m in MECHANISMS}, BACK),
    ({DISCOVER}, {m.name for m in MECHANISMS}, FOUND),
    ({MORPH}, {m.name for m in MECHANISMS}, ENDS),
    ({CONCEPT}, {m.name for m in MECHANISMS}, BASE),
    (SAMPLED | {RENDER}, {m.name for m in MECHANISMS}, BOTH),
    (SAMPLED | {CONCEPT, RENDER}, PROMPTS, BESIDE),
    ({RESUME, FRIENDLY, FEATURE}, _MASKS, HELD),
    (KEPT, SAMPLING, OTHER),
    (KEPT, WEIGHTS, OTHER),
    (KEPT, _DTYPE, BOTH),
    ({INVERT}, _DTYPE, ROUNDED),
    ({DISCOVER}, _DTYPE, CLOSE),
    ({STEER, TRAINED}, SAMPLING, OTHER),
    ({STEER}, {"LoraLoaderModelOnly"}, BOTH),
    ({FRIENDLY}, _FLOWS, FLOW),
    (EVERY, _EPS, NOTHING),
    (EVERY, _COMPILE, FROZEN),
    (LOOKING, _COMPILE, EAGER),
    ({FRIENDLY}, _COMPILE, SAME),
    (EVERY, _DIT, NOTHING),
    (LOOKING, _RANDOM | _MEMORY, SHAKY),
    ({RENDER, DISCOVER}, _EXTRA | (_DIT - {"SkipLayerGuidanceDiTSimple"}), UNCUT),
    ({STEER, TRAINED, RESUME, RENDER}, _KOHYA | {"ContextWindowsManual"}, SHRUNK),
    ({RENDER, DISCOVER}, _PARTIAL, NOAREA),
    ({STEER, TRAINED, RESUME}, _AREA, AREA),
    ({P2P, FEATURE}, _AREA, PARTLY),
    ({P2P}, _KOHYA, WORDS),
    ({P2P, MORPH}, _ONE, SINGLE),
    (LOOKING | {RESUME, P2P, FEATURE, CONCEPT}, {"ContextWindowsManual"}, WINDOWS),
    ({CONCEPT}, _SCALE, UNGUIDED),
    ({CONCEPT}, _ASKING, SUMMED),
    ({CONCEPT}, {"SkipLayerGuidanceDiTSimple"}, TAKEN),
    ({INVERT, MORPH}, {"ModelSamplingDiscrete (img_to_img_flow)"}, TURNED),
    (LOOKING, CACHES, OFF),
    ({INVERT, FRIENDLY}, CACHES, WAYBACK),
    (SAMPLED | {CONCEPT}, CACHES, CACHED),
    ({RESUME, FEATURE, CONCEPT}, _DEFAULTS, IDLE),
    ({TRAINED}, {"EasyCache (defaults)"}, QUIET),
    (EVERY, {HALVES}, PARTS),
    ({RESUME, FRIENDLY, FEATURE}, {HALVES}, WHOLE),
    (EVERY, {BATCH}, ALONE),
    ({DISCOVER}, {BATCH}, ONEOF),
    ({DISCOVER}, {"HyperTile"}, DRAWN),
    ({MORPH}, {BATCH}, NOBATCH),
    ({MORPH}, {"PerpNeg"}, TOGETHER),
)


def verdict_of(edit: Edit, mechanism: Mechanism) -> Verdict:
    """What the cell has to be."""
    if not can_connect(edit, mechanism):
        return NOSOCKET
    return next(
        verdict for edits, which, verdict in reversed(RULES) if edit.name in edits and _speaks(which, mechanism)
    )


def _speaks(which: Collection[str] | str, mechanism: Mechanism) -> bool:
    return mechanism.group == which if isinstance(which, str) else mechanism.name in which
