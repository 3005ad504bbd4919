"""What the shipped workflows contain, written once; ``workflows.py`` makes files of it."""

from __future__ import annotations

from .graph import Graph, Group, Node, Note

BLUE, VIOLET, GREEN = "#3f789e", "#8a5a9e", "#5a8a4e"
MODEL = {"model": ("Face model", "model")}
SIGMA = 1.6
"""Where the shipped graphs look at the embedded model; measured by ``benchmarks/region_locality.py``."""


def _load(seed: int, picture: int = 240) -> tuple[Node, ...]:
    return (
        Node("Face model", "HSpaceLoadFaceModel"),
        Node("Image", "HSpaceDemoFace", {"seed": seed}),
        Node("Sigmas", "BasicScheduler", {**MODEL, "scheduler": "karras", "steps": 25, "denoise": 1.0}),
        Node("Invert", "HSpaceInvertImage", {**MODEL, "image": ("Image", "image"), "sigmas": ("Sigmas", "SIGMAS")}, picture=picture),
    )


def discover_region() -> Graph:
    """Invert a face, discover the directions of its mouth and eyes, look at them, apply one, measure."""
    face, image, sigmas, invert = _load(35)

    def region(name: str) -> tuple[tuple[Node, ...], ...]:
        found = Node(
            f"Discover {name}", "HSpaceDiscoverRegion",
            {**MODEL, "trajectory": ("Invert", "trajectory"), "mask": ("Image", name), "sigma": SIGMA}, 340, 260,
        )  # fmt: skip
        atlas = Node(
            f"Atlas {name}", "HSpaceDirectionAtlas",
            {**MODEL, "trajectory": ("Invert", "trajectory"), "directions": (f"Discover {name}", "directions"), "title": name}, 620, 460,
        )  # fmt: skip
        return (found,), (atlas,)

    steer = (
        Node("Steer", "HSpaceSteer", {**MODEL, "directions": ("Discover mouth", "directions"), "direction": 2, "strength": -25.0}),
        Node("Render", "HSpaceRenderTrajectory", {"model": ("Steer", "model"), "trajectory": ("Invert", "trajectory")}, picture=220),
        Node("Reconstruction", "PreviewImage", {"images": ("Render", "reconstruction")}, picture=300),
        Node("Edited", "PreviewImage", {"images": ("Render", "edited")}, picture=300),
    )
    measure = (
        Node(
            "Measure", "HSpaceMeasureEdit",
            {"before": ("Render", "reconstruction"), "after": ("Render", "edited"), "mask": ("Image", "mouth")}, 460, 240,
        ),
        Node("Table", "PreviewAny", {"source": ("Measure", "table")}, 460, 620),
    )  # fmt: skip
    save = (
        Node("Both strips", "ImageStitch", {"image1": ("Atlas mouth", "sheet"), "image2": ("Atlas eyes", "sheet"), "direction": "down"}),
        Node("Strip", "SaveImage", {"images": ("Both strips", "IMAGE"), "filename_prefix": "hspace/strip"}, 360, 420),
        Node("Both spectra", "ImageStitch", {"image1": ("Discover mouth", "spectrum"), "image2": ("Discover eyes", "spectrum"), "direction": "down"}),
        Node("Spectrum", "SaveImage", {"images": ("Both spectra", "IMAGE"), "filename_prefix": "hspace/spectrum"}, 360, 360),
    )  # fmt: skip
    intro = Note(
        "## Find what the mouth can do - without labels\n"
        "1. **Invert** walks the picture up the noise levels and back (the number on the node is the PSNR).\n"
        "2. **Discover** looks for directions of the U-Net's bottleneck that change the masked region and leave the rest.\n"
        "3. **Atlas** shows each direction from -2a to +2a. Pick the one you like.\n"
        "4. **Steer** turns it into a MODEL with a dial; **Measure** says what moved and what leaked.\n\n"
        "Press *Run*. Then change *strength* or *direction* on Steer: only the last nodes run again.",
        420,
    )
    own = Note(
        "**Your own picture**: replace *Image* by Load Image and Upscale Image (64x64 for this model) and draw the mask with *Open in "
        "MaskEditor*. **Your own model**: Load Pixel Diffusion Model reads DDPM and guided-diffusion checkpoints; set *sigma* on Discover "
        "to 0 then, which takes the paper's level for the size of the picture.",
        300,
    )
    (mouth, mouth_atlas), (eyes, eyes_atlas) = region("mouth"), region("eyes")
    return Graph(
        "discover_region",
        (
            (
                Group("1  Load and invert", ((face, image, intro), (sigmas, invert, own))),
                Group("2  Discover", ((*mouth, *eyes), (*mouth_atlas, *eyes_atlas)), VIOLET),
                Group("3  Steer and measure", (steer, measure), GREEN),
                Group("4  Save", (save,)),
            ),
        ),
    )


def steer_saved_direction() -> Graph:
    """Load a saved direction, steer the MODEL, and use it in stock samplers: on an inverted picture and on fresh noise."""
    face, image, sigmas, invert = _load(34)
    note = Note(
        "## A saved direction on another face\n"
        "*Load Directions* reads what *Save Directions* wrote (this one comes with the pack, found on a different face). **Steer** gives a "
        "stock MODEL, so it runs in **SamplerCustomAdvanced** (on the inverted picture) and in **KSampler** (on fresh noise).\n\n"
        "Try *strength* -20, another *direction*, or *asymmetric* on Resume.",
        300,
    )
    steer = (
        Node("Directions", "HSpaceLoadDirections", {"file": "hspace/mouth.safetensors"}),
        Node("Steer", "HSpaceSteer", {**MODEL, "directions": ("Directions", "directions"), "direction": 2, "strength": -25.0}),
    )
    sampler = (
        Node("No noise", "DisableNoise"),
        Node("Guider", "BasicGuider", {"model": ("Steer", "model"), "conditioning": ("Face model", "unconditional")}),
        Node("Resume", "HSpaceResumeTrajectory", {"trajectory": ("Invert", "trajectory")}),
        Node(
            "Sampler", "SamplerCustomAdvanced",
            {"noise": ("No noise", "NOISE"), "guider": ("Guider", "GUIDER"), "sampler": ("Resume", "sampler"), "sigmas": ("Resume", "sigmas"),
             "latent_image": ("Invert", "noisiest")},
            picture=300,
        ),
        Node("Decode", "VAEDecode", {"samples": ("Sampler", "output"), "vae": ("Face model", "vae")}),
    )  # fmt: skip
    result = (
        Node("Edited", "SaveImage", {"images": ("Decode", "IMAGE"), "filename_prefix": "hspace/edited"}, 460, 300),
        Node("Measure", "HSpaceMeasureEdit", {"before": ("Invert", "reconstruction"), "after": ("Decode", "IMAGE"), "mask": ("Image", "mouth")}, 460, 240),
        Node("Table", "PreviewAny", {"source": ("Measure", "table")}, 460, 400),
    )  # fmt: skip
    noise = (
        Node("Empty", "EmptyImage", {"width": 64, "height": 64, "batch_size": 4, "color": 8421504}),
        Node("Encode", "VAEEncode", {"pixels": ("Empty", "IMAGE"), "vae": ("Face model", "vae")}),
        Node(
            "New faces", "KSampler",
            {"model": ("Steer", "model"), "seed": 3, "steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler": "karras",
             "positive": ("Face model", "unconditional"), "negative": ("Face model", "unconditional"), "latent_image": ("Encode", "LATENT"), "denoise": 1.0},
            picture=300,
        ),
        Node("Decode faces", "VAEDecode", {"samples": ("New faces", "LATENT"), "vae": ("Face model", "vae")}),
        Node("New", "SaveImage", {"images": ("Decode faces", "IMAGE"), "filename_prefix": "hspace/new_faces"}, 300, 300),
    )  # fmt: skip
    return Graph(
        "steer_saved_direction",
        (
            (
                Group("1  Load and invert", ((face, image, note), (sigmas, invert, *steer))),
                Group("2  An inverted picture", (sampler, result), GREEN),
                Group("3  New faces from noise", (noise,), VIOLET),
            ),
        ),
    )


GRAPHS = (discover_region, steer_saved_direction)
