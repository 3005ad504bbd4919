"""Shipped workflows that edit semantic codes of diffusion autoencoders."""

from __future__ import annotations

from .graph import Graph, Group, Node, Note
from .graphs_text import GREEN, MODEL, VAE, VIOLET, Link, measured, show

_OWN = (
    "**On photographs**: replace *Model* by *Load DiffAE* with a checkpoint of the released DiffAE code (ffhq256_autoenc) and its classifier's *last.ckpt* "
    "as statistics, *Image* by *Load Image*, aligned and scaled as FFHQ (256x256). {}"
)


def own(further: str = "", height: int = 130) -> Note:
    """How to run the graph on a released model."""
    return Note(_OWN.format(further).strip(), height)


def load(seed: int, variant: str = "DiffAE (one code)", steps: int = 50) -> tuple[Node, Node, Node]:
    """Model, picture and step grid."""
    return (
        Node("Model", "HSpaceLoadFaceDiffAE", {"variant": variant}),
        Node("Image", "HSpaceDemoFace", {"seed": seed}),
        Node("Steps", "HSpaceDiffAESteps", {**MODEL, "steps": steps}, picture=40),
    )


def encode(image: str = "Image", suffix: str = "") -> tuple[Node, Node]:
    """Code and noise of a picture."""
    code = f"Encode{suffix}"
    links = {**MODEL, **VAE, "image": (image, "image"), "sigmas": ("Steps", "sigmas"), "positive": (code, "code")}
    return (
        Node(code, "HSpaceEncodeCode", {**MODEL, "image": (image, "image")}, picture=90),
        Node(f"Invert{suffix}", "HSpaceInvertImage", {**links, "method": "ddim A"}, picture=240),
    )


def draw(
    title: str, code: Link, noise: Link = ("Invert", "noise latent"), start: str = "No noise", sampler: str = "Euler"
) -> tuple[Node, ...]:
    """A stock sampler on a code."""
    links = {"noise": (start, "NOISE"), "guider": (f"Guide: {title}", "GUIDER"), "sampler": (sampler, "SAMPLER")}
    return (
        Node(f"Guide: {title}", "BasicGuider", {**MODEL, "conditioning": code}),
        Node(title, "SamplerCustomAdvanced", {**links, "sigmas": ("Steps", "sigmas"), "latent_image": noise}, picture=60),
        Node(f"Decode: {title}", "VAEDecode", {"samples": (title, "output"), **VAE}),
    )


def fresh(count: int) -> tuple[Node, ...]:
    """Noise that knows nothing of a picture, and new noise at every step, which leaves less of it: for :data:`FRESH`."""
    return (
        Node("Grey", "EmptyImage", {"width": 64, "height": 64, "batch_size": count, "color": 0x808080}),
        Node("Empty", "VAEEncode", {"pixels": ("Grey", "IMAGE"), **VAE}),
        Node("Fresh noise", "RandomNoise", {"noise_seed": 3}),
        Node("Ancestral", "KSamplerSelect", {"sampler_name": "euler_ancestral"}),
    )


FRESH: tuple[Link, str, str] = ("Empty", "LATENT"), "Fresh noise", "Ancestral"
"""The last arguments of :func:`draw`."""
TOOLS = Node("No noise", "DisableNoise"), Node("Euler", "KSamplerSelect", {"sampler_name": "euler"})


def manipulate() -> Graph:
    """An attribute along a code; what the code holds by itself."""
    moved = Node(
        "Glasses", "HSpaceManipulateCode",
        {"code": ("Encode", "code"), "attributes": ("Model", "attributes"), "attribute": "glasses", "strength": 0.5}, picture=60,
    )  # fmt: skip
    both = Node(
        "And red hair", "HSpaceManipulateCode",
        {"code": ("Glasses", "code"), "attributes": ("Model", "attributes"), "attribute": "red hair", "strength": 0.5}, picture=60,
    )  # fmt: skip
    note = Note(
        "## Manipulate a semantic code (DiffAE)\n"
        "**Encode** sees what the picture shows, as a code; **Invert** finds the noise that, together with the code, is the picture (the number on the node).\n\n"
        "1. *Manipulate* moves the code along an attribute; a wrong name shows the list.\n"
        "2. Sample with the moved code and the *same* noise.\n"
        "3. Several attributes: one *Manipulate* after another.\n"
        "4. Something else moves along? Write it into *orthogonal_to*.\n\n"
        "**Code alone**: the same code with fresh noise shows what the code holds; the noise holds the rest. *euler_ancestral*, which draws new noise at every "
        "step, leaves less grain than *euler*; with the picture's own noise keep *euler*.",
        270,
    )
    return Graph(
        "diffae_manipulate",
        (
            (
                Group("1  Load", ((note, own()), (*load(35), *TOOLS))),
                Group("2  Code and noise", (encode(), (moved, both)), VIOLET),
                Group(
                    "3  Draw",
                    (
                        (*draw("One", ("Glasses", "code")), show("Glasses on", ("Decode: One", "IMAGE"), "diffae_glasses")),
                        (*draw("Two", ("And red hair", "code")), show("Red hair too", ("Decode: Two", "IMAGE"), "diffae_red_hair")),
                        (
                            *fresh(1),
                            *draw("Alone", ("Encode", "code"), *FRESH),
                            show("Code alone", ("Decode: Alone", "IMAGE")),
                        ),
                        measured(("Invert", "reconstruction"), ("Decode: One", "IMAGE"), "glasses"),
                    ),
                    GREEN,
                ),
            ),
        ),
    )


def interpolate() -> Graph:
    """Frames from one face to another."""
    second = Node("Second image", "HSpaceDemoFace", {"seed": 52})
    between = Node(
        "Frames", "HSpaceInterpolateCodes",
        {"first": ("Encode", "code"), "second": ("Encode second", "code"), "first_noise": ("Invert", "noise latent"),
         "second_noise": ("Invert second", "noise latent"), "frames": 8},
    )  # fmt: skip
    note = Note(
        "## Interpolate two pictures (DiffAE)\n"
        "Both pictures become a code and a noise. **Frames** puts codes on a line between them and noises on an arc, and a stock sampler draws the batch, "
        "added noise off.\n\n"
        "- Every frame is a face, not a fade.\n"
        "- *alphas* of **Frames** takes places of your own, or those of *Perceptual Reschedule*.\n"
        "- The batch goes into any video node.\n"
        "- **New people**: codes of nobody, from the model's latent network; another *seed*, other people.",
        230,
    )
    people = Node("New codes", "HSpaceSampleCodes", {**MODEL, "count": 8, "seed": 1})
    return Graph(
        "diffae_interpolate",
        (
            (
                Group("1  Load", ((note, own()), (*load(35), second, *TOOLS))),
                Group("2  Codes and noises", (encode(), encode("Second image", " second")), VIOLET),
                Group(
                    "3  Frames, and new people",
                    (
                        (
                            between,
                            *draw("Between", ("Frames", "codes"), ("Frames", "noises")),
                            show("On the way", ("Decode: Between", "IMAGE"), "diffae_frames", 460),
                        ),
                        (
                            people,
                            *fresh(8),
                            *draw("Nobody", ("New codes", "codes"), *FRESH),
                            show("New people", ("Decode: Nobody", "IMAGE"), "diffae_new_people", 460),
                        ),
                    ),
                    GREEN,
                ),
            ),
        ),
    )


def style_mix() -> Graph:
    """Levels of one face's code in another's."""
    second = Node("Style image", "HSpaceDemoFace", {"seed": 52})
    mixes = tuple(
        Node(f"Level {level}", "HSpaceMixCodeLevels", {"code": ("Encode", "code"), "style": ("Encode style", "code"), "levels": level})
        for level in ("0", "1", "2")
    )
    drawn = tuple(
        (*draw(f"Mix {n}", (f"Level {n}", "code")), show(f"With level {n}", (f"Decode: Mix {n}", "IMAGE"), f"hdae_level_{n}"))
        for n in ("0", "1", "2")
    )
    note = Note(
        "## Style mixing (HDAE)\n"
        "An HDAE has a code for every level of its U-Net: 0 the finest, 2 the coarsest. **Level n** takes one of them from the *style image*; the noise stays that "
        "of the first picture.\n\n"
        "What belongs to which level is learned, not decreed: compare the three pictures. Several levels: write *0, 1*.",
        190,
    )
    return Graph(
        "hdae_style_mix",
        (
            (
                Group("1  Load", ((note,), (*load(35, "HDAE (a code a level)"), second, *TOOLS))),
                Group(
                    "2  Codes",
                    (
                        encode(),
                        (Node("Encode style", "HSpaceEncodeCode", {**MODEL, "image": ("Style image", "image")}, picture=90), *mixes),
                    ),
                    VIOLET,
                ),
                Group("3  Draw", drawn, GREEN),
            ),
        ),
    )


def age() -> Graph:
    """Variants of an aged face."""
    tools = Node("Embedder", "HSpaceLoadFaceEmbedder"), Node("PADA", "HSpaceLoadPada", {"file": "hspace/diffae.safetensors"})
    aged = Node(
        "Age", "HSpacePadaAge",
        {"code": ("Encode", "code"), "pada": ("PADA", "pada"), "embedder": ("Embedder", "embedder"), "text": "face with grey hair", "variants": 6}, 340, 80,
    )  # fmt: skip
    noise = Node("Noise", "HSpaceVaryNoise", {"noise": ("Invert", "noise latent"), "variants": 6, "amount": 0.0})
    note = Note(
        "## Diverse ageing (PADA)\n"
        "There is not one way to age. **Age** draws several codes from the distribution that belongs to a text (or to a *reference* picture).\n\n"
        "- *tau*: how far they differ. *strength*: how far they go.\n"
        "- *amount* of **Noise** varies fine detail too.\n\n"
        "The face world has no years: its sign of age is **grey hair**, and that is what the shipped PADA was trained on.",
        220,
    )
    return Graph(
        "pada_age",
        (
            (
                Group(
                    "1  Load",
                    ((note, own("Train PADA on codes of your own pictures with *Train PADA* and CLIP.")), (*load(35), *TOOLS, *tools)),
                ),
                Group("2  Code and age", (encode(), (aged, noise)), VIOLET),
                Group(
                    "3  Draw",
                    ((*draw("Aged", ("Age", "codes"), ("Noise", "noise")), show("Variants", ("Decode: Aged", "IMAGE"), "pada", 460)),),
                    GREEN,
                ),
            ),
        ),
    )


def by_text() -> Graph:
    """A text's change as a change of the code."""
    tools = (
        Node("Embedder", "HSpaceLoadFaceEmbedder"),
        Node("Mapper", "HSpaceLoadDeltaMapper", {"file": "hspace/diffae.safetensors"}),
    )
    edits = tuple(
        Node(
            title, "HSpaceDeltaEdit",
            {"code": ("Encode", "code"), "mapper": ("Mapper", "mapper"), "embedder": ("Embedder", "embedder"), "image": ("Image", "image"),
             "target": target, "neutral": "face", "strength": 0.7}, 340, 80,
        )
        for title, target in (("Blond", "face with blond hair"), ("Open mouth", "face with an open mouth"))
    )  # fmt: skip
    drawn = tuple(
        (*draw(f"Draw {n}", (n, "code")), show(n + " edit", (f"Decode: Draw {n}", "IMAGE"), f"deltaedit_{n.split()[0].lower()}"))
        for n in ("Blond", "Open mouth")
    )
    note = Note(
        "## Edit by text (DeltaEdit)\n"
        "The mapper was trained on pairs of pictures only. What a text changes in the embedder's space stands in for what changes between two pictures.\n\n"
        "1. *target* says what should be there, *neutral* the same without it.\n"
        "2. *strength* is in typical distances between two pictures.\n"
        "3. *relevance* leaves coordinates alone that have nothing to do with the text.",
        200,
    )
    return Graph(
        "deltaedit_text",
        (
            (
                Group(
                    "1  Load",
                    (
                        (note, own("Train a mapper on codes of your own pictures with *Train Delta Mapper* and CLIP.")),
                        (*load(35), *TOOLS, *tools),
                    ),
                ),
                Group("2  Code and texts", (encode(), edits), VIOLET),
                Group("3  Draw", drawn, GREEN),
            ),
        ),
    )


CODE_GRAPHS = (manipulate, interpolate, style_mix, age, by_text)
