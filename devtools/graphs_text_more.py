"""More shipped workflows that edit by prompts, one a method; the parts that they share are in ``graphs_text.py``."""

from __future__ import annotations

from .graph import Graph, Group, Node, Note
from .graphs_text import GREEN, MODEL, VAE, VIOLET, Link, guide, invert, load, measured, own, prompt, sample, show


def null_text() -> Graph:
    """Guidance that loses an inverted picture, the negative prompts that bring it back, and an edit with them."""
    model, image, sigmas = load(35, 20)
    source = prompt("Source", "a serious person with brown hair and brown eyes")
    target = prompt("Target", "a smiling person with red hair and brown eyes")
    cfg = 5.0
    fit = (
        Node(
            "Null-text", "HSpaceNullTextOptimise",
            {**MODEL, "trajectory": ("Invert", "trajectory"), "positive": ("Source", "CONDITIONING"), "negative": ("Empty", "CONDITIONING"), "cfg": cfg, "inner_steps": 10}, picture=260,
        ),
        Node("Report", "PreviewAny", {"source": ("Null-text", "report")}, picture=100),
        Node("Kind", "KSamplerSelect", {"sampler_name": "euler"}),
        Node("No noise", "DisableNoise"),
    )  # fmt: skip

    def run(title: str, positive: str, negative: Link, file: str = "") -> tuple[Node, ...]:
        return (
            guide(f"Guide: {title}", (positive, "CONDITIONING"), negative, cfg),
            *sample(
                f"Sample: {title}", (f"Guide: {title}", "GUIDER"), ("Kind", "SAMPLER"), ("Sigmas", "SIGMAS"), ("Invert", "noise latent")
            ),
            show(title, (f"Decode: Sample: {title}", "IMAGE"), file),
        )

    fitted = ("Null-text", "negative")
    note = Note(
        "## Null-text inversion\n"
        "**Invert** at cfg 1 is nearly exact, but sampling with guidance leaves its path: see *Plain*. **Null-text** fits the negative prompt of every step "
        "until guided sampling returns to the picture: *Rebuilt*. With these negatives the positive prompt is free: *Edited*.\n\n"
        "- The same *cfg* everywhere: on Null-text and on the three guiders.\n"
        "- *inner_steps*: more is closer and slower; *Report* says how close.\n"
        "- To keep the layout as well, put *Prompt-to-Prompt* on the pair (see that workflow).\n\n"
        "**Faster, without fitting**: *Source* as the negative of *Guide: Edited*, and *Proximal CFG* on the MODEL.",
        310,
    )
    further = "50 steps, *cfg* 7.5: minutes on a GPU."
    return Graph(
        "null_text",
        (
            (
                Group("1  Load", ((note, own(further, 210)), (model, image, sigmas))),
                Group("2  Invert", ((source, prompt("Empty", ""), invert("Source", "fixed point")),)),
                Group("3  Fit the negatives", ((target, *fit),), VIOLET),
                Group(
                    "4  Sample with guidance",
                    (
                        run("Plain", "Source", ("Empty", "CONDITIONING")),
                        run("Rebuilt", "Source", fitted),
                        run("Edited", "Target", fitted, "null_text"),
                        measured(("Decode: Sample: Rebuilt", "IMAGE"), ("Decode: Sample: Edited", "IMAGE"), "mouth"),
                    ),
                    GREEN,
                ),
            ),
        ),
    )


def ledits() -> Graph:
    """Two things added to a picture, each with its own strength and in its own place, without saying what the picture shows."""
    model, image, sigmas = load(63, 25)
    inverted = Node(
        "Invert", "HSpaceEditFriendlyInversion",
        {**MODEL, **VAE, "image": ("Image", "image"), "sigmas": ("Sigmas", "SIGMAS"), "positive": ("Empty", "CONDITIONING"), "cfg": 1.0,
         "solver": "sde-dpm++2", "levels_at_once": 6}, picture=240,
    )  # fmt: skip
    concepts = (
        prompt("Glasses", "glasses"),
        Node("Add glasses", "HSpaceEditConcept", {"conditioning": ("Glasses", "CONDITIONING"), "scale": 8.0, "threshold": 0.8}),
        prompt("Red hair", "red hair"),
        Node("And red hair", "HSpaceEditConcept", {"conditioning": ("Red hair", "CONDITIONING"), "scale": 8.0, "threshold": 0.6, "previous": ("Add glasses", "concepts")}),
    )  # fmt: skip
    run = (
        Node(
            "Guide", "HSpaceConceptEditGuider", {**MODEL, "negative": ("Empty", "CONDITIONING"), "concepts": ("And red hair", "concepts")}
        ),
        Node("Spend noises", "HSpaceSampleEditFriendly", {"trajectory": ("Invert", "trajectory"), "skip": 4}),
        Node("No noise", "DisableNoise"),
        *sample("Sampler", ("Guide", "guider"), ("Spend noises", "sampler"), ("Spend noises", "sigmas"), ("Invert", "clean latent")),
    )
    result = (
        show("Edited", ("Decode: Sampler", "IMAGE"), "ledits"),
        *measured(("Invert", "reconstruction"), ("Decode: Sampler", "IMAGE"), "glasses"),
    )
    note = Note(
        "## LEDITS++: concepts instead of a description\n"
        "**Invert** without a prompt at cfg 1, exact in 25 steps with *sde-dpm++2*. **Edit Concept** says one thing each: *glasses*, *red hair*. The guider adds "
        "each where it changes the picture most and nowhere else.\n\n"
        "- *scale*: strength of this concept; *reverse* takes it out instead.\n"
        "- *threshold*: share of the picture that is left alone. 0.9 for small things, 0.6 for hair or background.\n"
        "- *warm_up*, *cool_down*: when it acts.\n"
        "- *skip* on Spend noises: higher keeps more.\n\n"
        "More concepts: chain them through *previous*. A painted region: *mask* on Guide.",
        310,
    )
    return Graph(
        "ledits",
        (
            (
                Group("1  Load", ((note, own()), (model, image, sigmas))),
                Group("2  Invert without a prompt", ((prompt("Empty", ""), inverted),)),
                Group("3  Concepts", (concepts,), VIOLET),
                Group("4  Edit", (run, result), GREEN),
            ),
        ),
    )


def exact_inversion() -> Graph:
    """EDICT: two coupled states, exact with guidance, back under the same prompt and under another."""
    model, image, sigmas = load(35, 25, 0.8)
    cfg = 3.0
    prompts = (
        prompt("Source", "a serious person with brown hair and brown eyes"),
        prompt("Target", "a smiling person with red hair and brown eyes"),
        prompt("Empty", ""),
    )
    inverted = invert("Source", "edict", negative=("Empty", "CONDITIONING"), cfg=cfg)
    back = (Node("Both states", "HSpaceSampleExactInversion", {"trajectory": ("Invert", "trajectory")}), Node("No noise", "DisableNoise"))

    def run(title: str, positive: str, file: str = "") -> tuple[Node, ...]:
        how = ("Both states", "sampler"), ("Both states", "sigmas"), ("Invert", "noise latent")
        return (
            guide(f"Guide: {title}", (positive, "CONDITIONING"), cfg=cfg),
            *sample(f"Sample: {title}", (f"Guide: {title}", "GUIDER"), *how),
            show(title, (f"Decode: Sample: {title}", "IMAGE"), file),
        )

    note = Note(
        "## EDICT: exact at any guidance\n"
        "**Invert** with method *edict* carries two states that undo each other's steps, so the picture comes back to rounding even with guidance: *Rebuilt*. "
        "Under another prompt the same two states give the edit.\n\n"
        "- Invert at the *cfg* that you edit with; 3 is the paper's.\n"
        "- *denoise* on Sigmas, 0.8: lower stays closer to the picture.\n"
        "- *mixing* on Invert, 0.93: lower couples the two states more firmly, and rounding grows.\n"
        "- Any MODEL may sample: put Steer, FreeU or Inject Features in front of *Guide: Edited*.",
        290,
    )
    further = "50 steps. A batch of another size computes other roundings on a GPU: keep it at 1."
    return Graph(
        "exact_inversion",
        (
            (
                Group("1  Load", ((note, own(further, 210)), (model, image, sigmas))),
                Group("2  Prompts and inversion", ((*prompts, inverted),), VIOLET),
                Group(
                    "3  Back, and another way",
                    (
                        (*back, *run("Rebuilt", "Source")),
                        run("Edited", "Target", "exact_inversion"),
                        measured(("Decode: Sample: Rebuilt", "IMAGE"), ("Decode: Sample: Edited", "IMAGE"), "mouth"),
                    ),
                    GREEN,
                ),
            ),
        ),
    )


def diffmorpher() -> Graph:
    """Two faces, a LoRA each, frames between them, evenly spaced to the eye."""

    def end(name: str, seed: int, text: str) -> tuple[Node, ...]:
        said = f"Prompt {name}"
        return (
            Node(name, "HSpaceDemoFace", {"seed": seed}),
            prompt(said, text),
            Node(f"Fit {name}", "HSpaceFitImageLora", {**MODEL, **VAE, "image": (name, "image"), "positive": (said, "CONDITIONING"), "steps": 60, "lr": 0.002}, picture=240),
            Node(f"With {name}", "LoraModelLoader", {**MODEL, "lora": (f"Fit {name}", "lora"), "strength_model": 1.0, "bypass": False}),
            Node(
                f"Invert {name}", "HSpaceInvertImage",
                {**VAE, "model": (f"With {name}", "model"), "image": (name, "image"), "sigmas": ("Sigmas", "SIGMAS"), "positive": (said, "CONDITIONING")}, picture=240,
            ),
        )  # fmt: skip

    model, _, sigmas = load(0, 20)
    ends = {
        **MODEL, **VAE, "first": ("Invert first", "trajectory"), "second": ("Invert second", "trajectory"),
        "lora_first": ("Fit first", "lora"), "lora_second": ("Fit second", "lora"), "batch": 8,
    }  # fmt: skip
    even = (
        Node("Morph", "HSpaceMorphFrames", {**ends, "frames": 8}, 340, 240),
        show("Even alphas", ("Morph", "frames"), width=340),
        Node("Reschedule", "HSpacePerceptualReschedule", {"frames": ("Morph", "frames"), "alphas": ("Morph", "alphas")}, 340, 260),
        Node("Report", "PreviewAny", {"source": ("Reschedule", "report")}, 340, 100),
    )
    smooth = (
        Node("Morph again", "HSpaceMorphFrames", {**ends, "alphas": ("Reschedule", "alphas")}, 340, 240),
        show("Frames", ("Morph again", "frames"), "diffmorpher", 340),
        Node(
            "Film", "SaveAnimatedWEBP", {"images": ("Morph again", "frames"), "filename_prefix": "hspace/diffmorpher", "fps": 8.0}, 340, 340
        ),
    )
    note = Note(
        "## From one picture to another (DiffMorpher)\n"
        "A small LoRA is **fitted** to each picture, each is **inverted** with its LoRA, and **Morph** interpolates all of it: noise, prompts, LoRAs, and the keys and values "
        "of self-attention. **Reschedule** measures how far neighbouring frames are apart and gives the alphas at which the change is even; **Morph again** draws those.\n\n"
        "- *frames* on Morph: how many.\n"
        "- *attention*: share of the steps with both pictures' self-attention.\n"
        "- *steps* on both Fit nodes: 60 here for speed, 200 in the paper. Keep *seed* the same on both.",
        300,
    )
    further = "Fit with *lr* 0.0002 and 200 steps, *batch* on Morph as the memory allows."
    return Graph(
        "diffmorpher",
        (
            (
                Group("1  Load", ((note, own(further, 210), model, sigmas),)),
                Group(
                    "2  Two faces, a LoRA each",
                    (
                        end("first", 35, "a serious person with brown hair and brown eyes"),
                        end("second", 48, "a smiling person with long blond hair and blue eyes and a pink background"),
                    ),
                    VIOLET,
                ),
                Group("3  Morph, twice", (even, smooth), GREEN),
            ),
        ),
    )


def latent_svd() -> Graph:
    """Two prompts from one noise, stopped on the way; singular vectors mixed, and sampled on under the first prompt."""
    model, _, sigmas = load(0, 20)
    empty = (
        Node("Empty picture", "EmptyImage", {"width": 64, "height": 64, "batch_size": 1, "color": 8421504}),
        Node("Encode", "VAEEncode", {"pixels": ("Empty picture", "IMAGE"), **VAE}),
        Node("Noise", "RandomNoise", {"noise_seed": 5}),
        Node("Kind", "KSamplerSelect", {"sampler_name": "euler"}),
        Node("Split source", "SplitSigmas", {"sigmas": ("Sigmas", "SIGMAS"), "step": 11}),
        Node("Split target", "SplitSigmas", {"sigmas": ("Sigmas", "SIGMAS"), "step": 12}),
        Node("No noise", "DisableNoise"),
    )
    prompts = (
        prompt("Source", "a serious person with short brown hair"),
        prompt("Target", "a smiling person with short red hair"),
        prompt("Empty", ""),
    )

    def start(name: str) -> tuple[Node, ...]:
        links = {"guider": (f"Guide {name}", "GUIDER"), "sampler": ("Kind", "SAMPLER"), "sigmas": (f"Split {name}", "high_sigmas")}
        return (
            guide(f"Guide {name}", (name.capitalize(), "CONDITIONING")),
            Node(
                f"Noisy {name}",
                "SamplerCustomAdvanced",
                {"noise": ("Noise", "NOISE"), **links, "latent_image": ("Encode", "LATENT")},
                picture=240,
            ),
        )

    def end(title: str, latent: Link, file: str = "") -> tuple[Node, ...]:
        run = sample(f"Sample: {title}", ("Guide source", "GUIDER"), ("Kind", "SAMPLER"), ("Split source", "low_sigmas"), latent)
        return (*run, show(title, (f"Decode: Sample: {title}", "IMAGE"), file))

    both = {
        **MODEL, "source": ("Noisy source", "output"), "target": ("Noisy target", "output"),
        "source_sigmas": ("Split source", "low_sigmas"), "target_sigmas": ("Split target", "low_sigmas"),
    }  # fmt: skip
    scale = Node(
        "Scale",
        "HSpaceLatentSVD",
        {**MODEL, "latent": ("Noisy source", "output"), "sigmas": ("Split source", "low_sigmas"), "factor": 1.5},
        picture=240,
    )
    mix = Node("Mix", "HSpaceMixLatentSVD", {**both, "leading": 16, "gain": 1.0})
    fit = Node("Fit", "HSpaceFitLatentSVD", {**both, "steps": 300}, picture=240)
    note = Note(
        "## Singular vectors of a noisy latent\n"
        "Two prompts start from one noise and are stopped on the way, the target a little later. The leading singular vectors of each channel carry coarse attributes:\n\n"
        "- **Scale** multiplies some of the source's own, and shows the spectrum.\n"
        "- **Mix** exchanges the *leading* ones for the target's, by *gain*.\n"
        "- **Fit** learns in seconds how strong each is to be.\n\n"
        "All three go on under the *source* prompt; *Source alone* is what it gives by itself. Turn *step* on both Split nodes: a later stop changes more, since the source prompt has fewer steps left to take it back.",
        300,
    )
    further = "*Empty Latent Image* takes the place of *Empty picture* and *Encode*."
    return Graph(
        "latent_svd",
        (
            (
                Group("1  Load", ((note, own(further, 210), model, sigmas), empty)),
                Group("2  Two prompts, one noise", ((*prompts, *start("source")), start("target"))),
                Group(
                    "3  Change and sample on",
                    (
                        end("Source alone", ("Noisy source", "output")),
                        (scale, *end("Scaled", ("Scale", "latent"))),
                        (mix, *end("Mixed", ("Mix", "latent"), "latent_svd_mixed")),
                        (fit, *end("Edited", ("Fit", "latent"), "latent_svd")),
                    ),
                    VIOLET,
                ),
            ),
        ),
    )  # fmt: skip


MORE_TEXT_GRAPHS = (null_text, ledits, exact_inversion, diffmorpher, latent_svd)
