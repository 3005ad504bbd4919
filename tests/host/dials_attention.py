"""Dials of the nodes of attention and concepts."""

from __future__ import annotations

from .dial_looks import concept_run, pair_run, tiny_run
from .dial_world import at
from .dials import FAST, Dials, to

ATTENTION_DIALS: dict[str, Dials] = {
    "HSpacePairConditioning": Dials(
        {"clip": at("checkpoint", 1)},
        {"source": to("a cat"), "targets": to("a cat\na dog")},
        refused=(
            (
                {"clip": None, "source_encoded": at("tiny", 1), "targets_encoded": at("tiny", 2), "source": "a cat"},
                "source",
            ),
            (
                {"clip": None, "source_encoded": at("tiny", 1), "targets_encoded": at("tiny", 2), "targets": "a cat"},
                "targets",
            ),
        ),
    ),
    "HSpacePairLatent": Dials({"latent": at("tiny latent")}, {"rows": to(3)}),
    "HSpaceSplitPair": Dials(
        {"latent": at("rows")}, {"rows": to(4, latent=at("four"))}, lambda bench, outputs: outputs[3]
    ),
    "HSpacePromptToPrompt": Dials(
        {"model": at("tiny"), "tokens": at("pair", 1)},
        {
            "mode": to("refine"),
            "cross_end": to(0.3, 0.0),
            "self_end": to(0.0, 0.9),
            "reweights": to("sat: 3"),
            "windows": to("sat: 0-0.3"),
            "self_resolution": to("half", "all"),
            "cross_start": to(0.5),
            "self_start": to(0.8, self_end=0.9),
        },
        pair_run,
        (
            ({"cross_end": 0.0, "reweights": "sat: 2"}, "reweights"),
            ({"cross_start": 0.9}, "cross_start"),
        ),
    ),
    "HSpaceP2PLocalBlend": Dials(
        {"model": at("tiny"), "tokens": at("pair", 1), "words": "cat", "threshold": 0.8},
        {"words": to("sat"), "threshold": to(0.95), "start": to(0.9), "without": to("sat")},
        pair_run,
        (({"words": "", "mask": at("tiny mask")}, "threshold"), ({"words": "", "threshold": 0.3}, "mask")),
    ),
    "HSpaceP2PBlendMask": Dials(),
    "HSpaceWordMask": Dials(
        {
            "model": at("tiny"),
            "clip": at("checkpoint", 1),
            "image": at("picture"),
            "vae": at("tiny vae"),
            "draws": 1,
            "words": "a red hat / a blue hat",
        },
        {
            "words": to("a face / a cat"),
            "method": to("attention"),
            "against": to("a face / a cat"),
            "threshold": to(0.9),
            "sigma": to(1.0),
            "draws": to(2),
            "seed": to(5),
            "fit": to("pad", model=at("text"), clip=at("text", 1), image=at("wide"), vae=None),
        },
        lambda bench, outputs: outputs[1],
        (
            ({"words": " "}, "words"),
            ({"fit": "refuse"}, "fit"),
            ({"words": "hat /"}, "alternatives"),
            ({"against": "a red hat / a blue hat"}, "against"),
        ),
    ),
    "HSpaceInjectFeatures": Dials(
        {"model": at("tiny"), "trajectory": at("tiny one")},
        {
            "preset": to("PnP f only", "PnP qk only", "P2P self", "MasaCtrl"),
            "tau_f": to(0.3),
            "tau_A": to(0.2),
            "start": to(0.4),
            "f_blocks": to("1"),
            "qk_blocks": to("3"),
            "kv_blocks": to("3"),
        },
        tiny_run,
        (
            ({"preset": "PnP f only", "tau_A": 0.4}, "tau_A"),
            ({"preset": "PnP qk only", "tau_f": 0.4}, "tau_f"),
            ({"preset": "MasaCtrl", "tau_f": 0.4}, "tau_f"),
            ({"start": 0.9}, "start"),
        ),
    ),
    "HSpaceEditConcept": Dials(
        {"conditioning": at("words")},
        {
            "scale": to(9.0, 0.0),
            "threshold": to(0.5),
            "reverse": to(True),
            "warm_up": to(0.6),
            "cool_down": to(0.4),
            "words": to(
                "red",
                clip=at("checkpoint", 1),
                words="red hair",
                look=lambda bench, outputs: outputs[0]["concepts"][0]["tokens"],
            ),
        },
        concept_run,
        (
            ({"clip": at("checkpoint", 1)}, "clip"),
            ({"words": "red hair"}, "CLIP"),
            ({"warm_up": 0.9, "cool_down": 0.5}, "warm_up"),
        ),
    ),
    "HSpaceConceptEditGuider": Dials(
        {"model": at("checkpoint"), "negative": at("empty")}, refused=(({"mask": at("tiny mask")}, "mask"),)
    ),
    "HSpaceMorphFrames": Dials(
        {
            "model": at("tiny"),
            "first": at("tiny one"),
            "second": at("tiny negated"),
            "vae": at("tiny vae"),
            "frames": 3,
        },
        {
            "frames": to(4),
            "alphas": to("0, 0.3, 1", frames=12),
            "attention": to(0.0),
            "adain": to(False),
            "lora_mode": to(
                "factors",
                first=at("invert first"),
                second=at("invert second"),
                lora_first=at("lora first"),
                lora_second=at("lora second"),
            ),
        },
        refused=(
            ({"alphas": "0, 1"}, "frames"),
            ({"model": at("small steered")}, "carries edits"),
            ({"lora_mode": "factors"}, "lora_mode"),
            (
                {
                    "model": at("model"),
                    "first": at("invert"),
                    "second": at("invert other"),
                    "vae": None,
                    "attention": 0.5,
                },
                "attention",
            ),
        ),
        elsewhere={"batch": FAST},
    ),
    "HSpacePerceptualReschedule": Dials({"frames": at("some")}, {"alphas": to("0, 0.2, 1")}),
}
