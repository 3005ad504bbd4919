"""Shipped workflows that edit by prompts, one a method: inversion and what follows it; see ``graphs_text_more.py`` for the rest."""

from __future__ import annotations

from .graph import Graph, Group, Node, Note

VIOLET, GREEN = "#8a5a9e", "#5a8a4e"
MODEL, CLIP, VAE = {"model": ("Model", "model")}, {"clip": ("Model", "clip")}, {"vae": ("Model", "vae")}
Link = tuple[str, str]


def load(seed: int, steps: int = 25, denoise: float = 1.0) -> tuple[Node, Node, Node]:
    """Model, picture and noise levels."""
    return (
        Node("Model", "HSpaceLoadFaceTextModel"),
        Node("Image", "HSpaceDemoFace", {"seed": seed}),
        Node("Sigmas", "BasicScheduler", {**MODEL, "scheduler": "karras", "steps": steps, "denoise": denoise}),
    )


def prompt(title: str, text: str) -> Node:
    """An encoded prompt."""
    return Node(title, "CLIPTextEncode", {**CLIP, "text": text}, picture=60)


def invert(positive: str, method: str = "ddim B", output: str = "CONDITIONING", **dials) -> Node:
    """The picture through noise, under the prompt of an output of the node ``positive``."""
    links = {**MODEL, **VAE, "image": ("Image", "image"), "sigmas": ("Sigmas", "SIGMAS"), "positive": (positive, output)}
    return Node("Invert", "HSpaceInvertImage", {**links, "method": method, **dials}, picture=240)


def guide(title: str, positive: Link, negative: Link = ("Empty", "CONDITIONING"), cfg: float = 3.0, model: Link = MODEL["model"]) -> Node:
    """A stock guider."""
    return Node(title, "CFGGuider", {"model": model, "positive": positive, "negative": negative, "cfg": cfg})


def sample(title: str, guider: Link, sampler: Link, sigmas: Link, latent: Link, noise: str = "No noise") -> tuple[Node, Node]:
    """A stock sampler, decoded by ``Decode: <title>``."""
    links = {"noise": (noise, "NOISE"), "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
    return (
        Node(title, "SamplerCustomAdvanced", links, picture=240),
        Node(f"Decode: {title}", "VAEDecode", {"samples": (title, "output"), **VAE}),
    )


def show(title: str, image: Link, file: str = "", width: int = 300) -> Node:
    """A picture in the graph, kept if it has a file name."""
    kind = Node(title, "SaveImage", {"images": image, "filename_prefix": f"hspace/{file}"}, width, 200)
    return kind if file else Node(title, "PreviewImage", {"images": image}, width, 200)


def measured(before: Link, after: Link, mask: str) -> tuple[Node, Node]:
    """What moved, and what moved outside of the mask."""
    return (
        Node("Measure", "HSpaceMeasureEdit", {"before": before, "after": after, "mask": ("Image", mask)}, 460, 240),
        Node("Table", "PreviewAny", {"source": ("Measure", "table")}, 460, 560),
    )


def own(further: str = "", height: int = 180) -> Note:
    """How to run the graph on a checkpoint."""
    return Note(
        "**On Stable Diffusion 1.5 or SDXL**: replace *Model* by *Load Checkpoint*; its three outputs are the same. Replace *Image* by *Load Image* and "
        "*Upscale Image* (512x512, SDXL 1024x1024), masks by *Open in MaskEditor*, and write your own prompts. Set *factors* of *Measure* to *off*: it "
        f"reads the factors of drawn faces only. {further}".strip(),
        height,
    )


def edit_friendly() -> Graph:
    """The noises of every step, found for a picture, spent again under another prompt; once everywhere, once in a mask."""
    model, image, sigmas = load(35, 30)
    prompts = (
        prompt("Source", "a serious person with brown hair and brown eyes"),
        prompt("Target", "a serious person with red hair and brown eyes"),
        prompt("Empty", ""),
    )
    inverted = Node(
        "Invert", "HSpaceEditFriendlyInversion",
        {**MODEL, **VAE, "image": ("Image", "image"), "sigmas": ("Sigmas", "SIGMAS"), "positive": ("Source", "CONDITIONING"),
         "negative": ("Empty", "CONDITIONING"), "cfg": 2.0, "levels_at_once": 6}, picture=240,
    )  # fmt: skip
    ways = (
        guide("Guide", ("Target", "CONDITIONING"), cfg=6.0),
        Node("Spend noises", "HSpaceSampleEditFriendly", {"trajectory": ("Invert", "trajectory"), "skip": 6}),
        Node("No noise", "DisableNoise"),
        Node("Only hair", "SetLatentNoiseMask", {"samples": ("Invert", "clean latent"), "mask": ("Image", "hair")}),
    )
    how = ("Guide", "GUIDER"), ("Spend noises", "sampler"), ("Spend noises", "sigmas")
    everywhere = (*sample("Everywhere", *how, ("Invert", "clean latent")), show("Edited", ("Decode: Everywhere", "IMAGE"), "edit_friendly"))
    inside = (*sample("Inside", *how, ("Only hair", "LATENT")), show("Edited inside", ("Decode: Inside", "IMAGE"), "edit_friendly_inside"))
    note = Note(
        "## Edit-friendly inversion\n"
        "**Invert** noises the picture at every level on its own and works out which noise each step of a stochastic sampler needs to pass through there. "
        "With the same prompt those noises give the picture back exactly (the number on the node); with another prompt they edit it.\n\n"
        "1. Say in *Source* what is there, in *Target* what should be; change only the words that matter.\n"
        "2. Raise *cfg* on Guide until it shows.\n"
        "3. Raise *skip* until nothing else moves.\n"
        "4. Another *seed* on Invert gives another version.\n\n"
        "**Inside**: the same edit where the mask is white; the rest stays exactly.",
        290,
    )
    return Graph(
        "edit_friendly",
        (
            (
                Group("1  Load", ((note, own()), (model, image, sigmas))),
                Group("2  Prompts and inversion", ((*prompts, inverted),), VIOLET),
                Group(
                    "3  Edit",
                    (ways, everywhere, inside, measured(("Invert", "reconstruction"), ("Decode: Inside", "IMAGE"), "hair")),
                    GREEN,
                ),
            ),
        ),
    )


def prompt_to_prompt() -> Graph:
    """A real picture and two targets side by side: the source stays on its path, the targets take its layout, hair alone may change."""
    model, image, sigmas = load(35)
    source, *targets = (f"a serious person with {colour} hair and brown eyes" for colour in ("brown", "red", "blond"))
    texts = {"source": source, "targets": "\n".join(targets)}
    prompts = Node("Pair", "HSpacePairConditioning", {**CLIP, **texts}, 340, 180), prompt("Empty", "")
    pair = (
        Node("Rows", "HSpacePairLatent", {"latent": ("Invert", "noise latent"), "rows": ("Pair", "rows")}, 340),
        Node("Prompt-to-Prompt", "HSpacePromptToPrompt", {**MODEL, "tokens": ("Pair", "tokens"), "cross_end": 0.4, "self_end": 0.4, "self_resolution": "half"}, 340, 60),
        Node("Only hair", "HSpaceP2PLocalBlend", {"model": ("Prompt-to-Prompt", "model"), "tokens": ("Pair", "tokens"), "words": "hair", "mask": ("Image", "hair")}, 340),
    )  # fmt: skip
    run = (
        guide("Guide", ("Pair", "positive"), cfg=5.0, model=("Only hair", "model")),
        Node("Resume", "HSpaceResumeTrajectory", {"trajectory": ("Invert", "trajectory"), "direct": True}),
        Node("No noise", "DisableNoise"),
        *sample("Sampler", ("Guide", "GUIDER"), ("Resume", "sampler"), ("Resume", "sigmas"), ("Rows", "latent")),
    )
    split = (
        Node("Split", "HSpaceSplitPair", {"rows": ("Pair", "rows"), "image": ("Decode: Sampler", "IMAGE")}),
        show("Source", ("Split", "source image")),
        show("Edited", ("Split", "target images"), "prompt_to_prompt"),
    )
    where = (
        Node("Blend mask", "HSpaceP2PBlendMask", {"model": ("Only hair", "model"), "latent": ("Sampler", "output")}),
        Node("As picture", "MaskToImage", {"mask": ("Blend mask", "mask")}),
        show("Where", ("As picture", "IMAGE")),
    )
    note = Note(
        "## Prompt-to-Prompt on a real picture\n"
        "Source and targets are rows of one batch. **Prompt-to-Prompt** lets the changed words act where the source's words act and keeps the source's shapes; "
        "**Only hair** puts everything back that the word *hair* does not look at; **Resume** with *direct* holds the source row exactly on the picture "
        "(DirectInversion).\n\n"
        "- *targets* on Pair: one prompt a line, each gives a picture.\n"
        "- *cross_end*, *self_end*: lower both for bigger changes.\n"
        "- *reweights*: `red: 2` makes a word stronger.\n"
        "- *mask* and *words* on Only hair: only where both agree may change, see *Where*. Either alone will do; *threshold* higher is a smaller place.\n\n"
        "**New pictures instead**: an empty latent into *Rows*, and KSampler behind *Only hair*.",
        330,
    )
    further = "Set *self_resolution* to *quarter* and *cfg* to 7.5."
    return Graph(
        "prompt_to_prompt",
        (
            (
                Group("1  Load", ((note, own(further, 210)), (model, image, sigmas))),
                Group("2  Prompts and inversion", ((*prompts, invert("Pair", "fixed point", "source")),)),
                Group("3  Rows and shared attention", (pair,), VIOLET),
                Group("4  Sample and take apart", (run, split, where), GREEN),
            ),
        ),
    )


def plug_and_play() -> Graph:
    """The layout of a picture under another prompt, beside the same prompt without it."""
    model, image, sigmas = load(35)
    source = prompt("Source", "a serious person with brown hair and brown eyes")
    target = prompt("Target", "a smiling person with red hair and glasses and a green background")
    inject = (
        Node(
            "Inject", "HSpaceInjectFeatures", {**MODEL, "trajectory": ("Invert", "trajectory"), "preset": "PnP", "tau_f": 0.8, "tau_A": 0.5}
        ),
        Node("Blocks", "PreviewAny", {"source": ("Inject", "blocks")}, picture=100),
        Node("Resume", "HSpaceResumeTrajectory", {"trajectory": ("Invert", "trajectory")}),
        Node("No noise", "DisableNoise"),
    )
    how = ("Resume", "sampler"), ("Resume", "sigmas"), ("Invert", "noise latent")
    injected = (
        guide("Guide", ("Target", "CONDITIONING"), cfg=5.0, model=("Inject", "model")),
        *sample("With features", ("Guide", "GUIDER"), *how),
        show("Edited", ("Decode: With features", "IMAGE"), "plug_and_play"),
    )
    plain = (
        guide("Guide plain", ("Target", "CONDITIONING"), cfg=5.0),
        *sample("Without", ("Guide plain", "GUIDER"), *how),
        show("Prompt alone", ("Decode: Without", "IMAGE")),
    )
    note = Note(
        "## Plug-and-Play\n"
        "**Invert** keeps the state of the picture at every step. While the sampler runs, **Inject** also shows those states to the network and hands their "
        "features over: residual features of one decoder block (*tau_f*, share of the steps) and the self-attention of the later ones (*tau_A*). "
        "The layout is then the picture's, the rest is the prompt's.\n\n"
        "- Lower *tau_f* and *tau_A* for a freer result; both 0 is *Prompt alone*.\n"
        "- *preset* **MasaCtrl** takes the picture's appearance instead, for another pose; **P2P self** its coarse shapes.\n"
        "- Any sampler, any prompt, any batch.",
        300,
    )
    further = "The blocks are the papers' own on 1.5. Use 50 steps and *cfg* 7.5."
    return Graph(
        "plug_and_play",
        (
            (
                Group("1  Load", ((note, own(further, 210)), (model, image, sigmas))),
                Group("2  Invert", ((source, prompt("Empty", ""), invert("Source", "fixed point")),)),
                Group("3  Inject", ((target, *inject),), VIOLET),
                Group("4  Sample with and without", (injected, plain, measured(("Invert", "reconstruction"), ("Decode: With features", "IMAGE"), "hair")), GREEN),
            ),
        ),
    )  # fmt: skip


def sdedit() -> Graph:
    """Rough strokes on a picture made real, in their own region only."""
    model, image, _ = load(40)
    strokes = (
        Node("Colour", "EmptyImage", {"width": 64, "height": 64, "batch_size": 1, "color": 0xB0502A}),
        Node(
            "Strokes", "ImageCompositeMasked", {"destination": ("Image", "image"), "source": ("Colour", "IMAGE"), "mask": ("Image", "hair")}
        ),
        show("Painted", ("Strokes", "IMAGE")),
        Node("Encode", "VAEEncode", {"pixels": ("Strokes", "IMAGE"), **VAE}),
        Node("Only hair", "SetLatentNoiseMask", {"samples": ("Encode", "LATENT"), "mask": ("Image", "hair")}),
    )
    levels = (
        prompt("Target", "a smiling person with long red hair and green eyes"),
        prompt("Empty", ""),
        guide("Guide", ("Target", "CONDITIONING")),
        Node("Levels", "HSpaceSDEditSigmas", {**MODEL, "t0": 0.3, "steps": 20, "spacing": "karras"}),
        Node("Kind", "KSamplerSelect", {"sampler_name": "euler_ancestral"}),
        Node("Repeat", "HSpaceSDEditRepeat", {"sampler": ("Kind", "SAMPLER"), "repeats": 2, "noise": "new"}),
        Node("Noise", "RandomNoise", {"noise_seed": 3}),
    )
    run = (
        *sample("Sampler", ("Guide", "GUIDER"), ("Repeat", "sampler"), ("Levels", "sigmas"), ("Only hair", "LATENT"), "Noise"),
        show("Edited", ("Decode: Sampler", "IMAGE"), "sdedit"),
    )
    note = Note(
        "## SDEdit: strokes into a picture\n"
        "Flat colour on the hair, noised up to **t0** and denoised again: the noise hides what is rough about the strokes, and the model draws what is plausible there. "
        "The noise mask keeps everything else exactly.\n\n"
        "- *t0*: higher is more real, lower closer to the strokes. Small pictures need less of it.\n"
        "- *repeats*: each makes the result more real and less faithful.\n"
        "- *Kind*: ddpm or euler_ancestral are the paper's, euler its deterministic variant.\n\n"
        "**Your own strokes**: the stock *Painter* node in place of *Strokes*; its mask into *Only hair*.",
        300,
    )
    further = "Give *Colour* the size of the picture. *t0* 0.4 to 0.6."
    return Graph(
        "sdedit",
        (
            (
                Group("1  Load", ((note, own(further, 210)), (model, image))),
                Group("2  Strokes and their region", (strokes,), VIOLET),
                Group("3  From noise", (levels, run, measured(("Image", "image"), ("Decode: Sampler", "IMAGE"), "hair")), GREEN),
            ),
        ),
    )


TEXT_GRAPHS = (edit_friendly, prompt_to_prompt, plug_and_play, sdedit)
