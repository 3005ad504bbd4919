"""What the shipped workflows contain, written once; ``workflows.py`` makes files of it. Here: directions of a region, and checkpoints."""

from __future__ import annotations

from .graph import Graph, Group, Node, Note

BLUE, VIOLET, GREEN = "#3f789e", "#8a5a9e", "#5a8a4e"
MODEL = {"model": ("Face model", "model")}
SIGMA = 1.6
"""Where the shipped graphs look at the embedded model; measured by ``benchmarks/region_locality.py``."""


def load(seed: int, picture: int = 240) -> tuple[Node, ...]:
    """Model, picture, noise levels and inversion."""
    return (
        Node("Face model", "HSpaceLoadFaceModel"),
        Node("Image", "HSpaceDemoFace", {"seed": seed}),
        Node("Sigmas", "BasicScheduler", {**MODEL, "scheduler": "karras", "steps": 25, "denoise": 1.0}),
        Node("Invert", "HSpaceInvertImage", {**MODEL, "image": ("Image", "image"), "sigmas": ("Sigmas", "SIGMAS")}, picture=picture),
    )


def discover_region() -> Graph:
    """Invert a face, discover the directions of its mouth and eyes, look at them, apply one, measure."""
    face, image, sigmas, invert = load(35)

    def region(name: str) -> tuple[tuple[Node, ...], ...]:
        found = Node(
            f"Discover {name}", "HSpaceDiscoverRegion",
            {**MODEL, "trajectory": ("Invert", "trajectory"), "mask": ("Image", name), "sigma": SIGMA}, 340, 260,
        )  # fmt: skip
        atlas = Node(
            f"Atlas {name}", "HSpaceDirectionAtlas",
            {**MODEL, "trajectory": ("Invert", "trajectory"), "directions": (f"Discover {name}", "directions"), "title": name, "names": "face world"}, 700, 460,
        )  # fmt: skip
        return (found,), (atlas,)

    steer = (
        Node("Steer", "HSpaceSteer", {**MODEL, "directions": ("Discover mouth", "directions"), "direction": 2, "strength": 18.0}),
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
                Group("1  Load and invert", ((intro, face, image), (sigmas, invert, own))),
                Group("2  Discover", ((*mouth, *eyes), (*mouth_atlas, *eyes_atlas)), VIOLET),
                Group("3  Steer and measure", (steer, measure), GREEN),
                Group("4  Save", (save,)),
            ),
        ),
    )


def steer_saved_direction() -> Graph:
    """Load a saved direction, steer the MODEL, and use it in stock samplers: on an inverted picture and on fresh noise."""
    face, image, sigmas, invert = load(34)
    note = Note(
        "## A saved direction on another face\n"
        "*Load Directions* reads what *Save Directions* wrote (this one comes with the pack, found on a different face). **Steer** gives a "
        "stock MODEL, so it runs in **SamplerCustomAdvanced** (on the inverted picture) and in **KSampler** (on fresh noise).\n\n"
        "Try *strength* -18, another *direction*, or *asymmetric* on Resume.",
        300,
    )
    steer = (
        Node("Directions", "HSpaceLoadDirections", {"file": "hspace/mouth.safetensors"}),
        Node("Steer", "HSpaceSteer", {**MODEL, "directions": ("Directions", "directions"), "direction": 2, "strength": 18.0}),
    )
    sampler = (
        Node("No noise", "DisableNoise"),
        Node("Guider", "BasicGuider", {"model": ("Steer", "model"), "conditioning": ("Face model", "unconditional")}),
        Node("Resume", "HSpaceResumeTrajectory", {"trajectory": ("Invert", "trajectory")}),
        Node(
            "Sampler", "SamplerCustomAdvanced",
            {"noise": ("No noise", "NOISE"), "guider": ("Guider", "GUIDER"), "sampler": ("Resume", "sampler"), "sigmas": ("Resume", "sigmas"),
             "latent_image": ("Invert", "noise latent")},
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
                Group("1  Load and invert", ((note, face, image), (sigmas, invert, *steer))),
                Group("2  An inverted picture", (sampler, result), GREEN),
                Group("3  New faces from noise", (noise,), VIOLET),
            ),
        ),
    )


def direction_explorer() -> Graph:
    """The costly part once, then dials that answer at once: mode, tau, rank, direction, strength."""
    face, image, sigmas, invert = load(35)
    explore = (
        Node(
            "Basis",
            "HSpaceRegionBasis",
            {**MODEL, "trajectory": ("Invert", "trajectory"), "mask": ("Image", "mouth"), "sigma": SIGMA, "max_k": 6},
            340,
            90,
        ),
        Node("Directions", "HSpaceBasisDirections", {"basis": ("Basis", "basis"), "k": 6}, 340, 240),
        Node("Report", "PreviewAny", {"source": ("Basis", "report")}, 340, 100),
    )
    atlas = (
        Node(
            "Atlas", "HSpaceDirectionAtlas",
            {**MODEL, "trajectory": ("Invert", "trajectory"), "directions": ("Directions", "directions"), "title": "mouth", "count": 6, "names": "face world"}, 720, 560,
        ),
    )  # fmt: skip
    pick = (
        Node("Pick", "HSpaceSelectDirections", {"directions": ("Directions", "directions"), "first": 1, "count": 1, "label": "mine"}),
        Node("Steer", "HSpaceSteer", {**MODEL, "directions": ("Pick", "directions"), "strength": 25.0}),
        Node("Render", "HSpaceRenderTrajectory", {"model": ("Steer", "model"), "trajectory": ("Invert", "trajectory")}, picture=220),
        Node("Save", "HSpaceSaveDirections", {"directions": ("Pick", "directions"), "name": "mine"}, picture=60),
    )
    measure = (
        Node(
            "Measure",
            "HSpaceMeasureEdit",
            {"before": ("Render", "reconstruction"), "after": ("Render", "edited"), "mask": ("Image", "mouth")},
            460,
            240,
        ),
        Node("Table", "PreviewAny", {"source": ("Measure", "table")}, 460, 620),
    )
    note = Note(
        "## Look around in a region\n"
        "**Basis** asks the network once what the mouth can do. **Directions** then answers without the network: turn *mode*, *tau*, *rank* or *k* "
        "and press *Run*, and only this node and the pictures run again.\n\n"
        "The **Atlas** writes beside each direction its gain, its leak and what its two ends do. Pick one by number, give it a name, turn *strength*, "
        "look at the table, and keep it: *Save* writes a file for *Load Directions*.",
        360,
    )
    return Graph(
        "direction_explorer",
        (
            (
                Group("1  Load and invert", ((note, face, image), (sigmas, invert))),
                Group("2  Explore", (explore, atlas), VIOLET),
                Group("3  Pick, steer, measure", (pick, measure), GREEN),
            ),
        ),
    )


def global_direction() -> Graph:
    """What a region can do in general: directions of six faces averaged, then used on a seventh."""
    face, image, sigmas, invert = load(60)
    image = Node("Image", "HSpaceDemoFace", {"seed": 60, "count": 6})
    found = (
        Node(
            "Global", "HSpaceGlobalDirections", {**MODEL, "trajectory": ("Invert", "trajectory"), "mask": ("Image", "mouth"), "sigma": SIGMA, "k": 3}, 340, 240,
        ),
        Node("Agreement", "PreviewAny", {"source": ("Global", "report")}, 340, 160),
        Node("Save", "HSpaceSaveDirections", {"directions": ("Global", "directions"), "name": "mouth_global"}, 340, 60),
    )  # fmt: skip
    other = (
        Node("Other face", "HSpaceDemoFace", {"seed": 34}),
        Node("Invert other", "HSpaceInvertImage", {**MODEL, "image": ("Other face", "image"), "sigmas": ("Sigmas", "SIGMAS")}, picture=240),
    )
    atlas = (
        Node(
            "Atlas", "HSpaceDirectionAtlas",
            {**MODEL, "trajectory": ("Invert other", "trajectory"), "directions": ("Global", "directions"), "title": "global", "count": 3, "names": "face world"}, 720, 360,
        ),
    )  # fmt: skip
    note = Note(
        "## One set of directions for all faces\n"
        "**Global** discovers the mouth directions of each of six faces, pairs them whatever their order and sign, and averages them. *Agreement* says "
        "how much of each direction the faces have in common: near 1, all of them; near 0, an accident.\n\n"
        "The **Atlas** uses the average on a face that was not among them.",
        300,
    )
    return Graph(
        "global_direction",
        (
            (
                Group("1  Six faces", ((note, face, image), (sigmas, invert))),
                Group("2  Average", (found,), VIOLET),
                Group("3  Another face", (other, atlas), GREEN),
            ),
        ),
    )


def compare_methods() -> Graph:
    """Five published ways on one face and one mask, each applied and measured the same way."""
    face, image, sigmas, invert = load(35)
    look = {**MODEL, "trajectory": ("Invert", "trajectory"), "mask": ("Image", "mouth"), "sigma": SIGMA}
    ways = (  # with the direction that is the smile, at about equal change inside the mask
        ("generalized", "HSpaceDiscoverRegion", {"mode": "generalized", "k": 3}, 2, 18.0),
        ("mask alone", "HSpaceDiscoverRegion", {"mode": "none", "k": 3}, 1, 12.0),
        ("RBE code", "HSpaceDiscoverRegion", {"mode": "single", "k": 3}, 1, 12.0),
        ("LOCO Edit", "HSpaceBaselineDirections", {"method": "LOCO Edit (x)", "k": 3}, 1, 6.0),
    )
    columns = []
    for name, kind, dials, direction, strength in ways:
        found = Node(f"Find: {name}", kind, {**look, **dials}, 320, 230)
        if name == "LOCO Edit":
            edit = Node(
                f"Edit: {name}", "HSpaceEditState",
                {**MODEL, "trajectory": ("Invert", "trajectory"), "directions": (found.title, "directions"), "direction": direction, "strength": strength}, 320,
            )  # fmt: skip
            render = Node(f"Render: {name}", "HSpaceRenderTrajectory", {**MODEL, "trajectory": (edit.title, "trajectory")}, 320, 220)
        else:
            edit = Node(
                f"Edit: {name}",
                "HSpaceSteer",
                {**MODEL, "directions": (found.title, "directions"), "direction": direction, "strength": strength},
                320,
            )
            render = Node(
                f"Render: {name}",
                "HSpaceRenderTrajectory",
                {"model": (edit.title, "model"), "trajectory": ("Invert", "trajectory")},
                320,
                220,
            )
        measure = Node(
            f"Measure: {name}", "HSpaceMeasureEdit",
            {"before": ("Invert", "reconstruction"), "after": (render.title, "edited"), "mask": ("Image", "mouth")}, 320, 180,
        )  # fmt: skip
        columns.append((found, edit, render, measure, Node(f"Table: {name}", "PreviewAny", {"source": (measure.title, "table")}, 320, 420)))
    note = Note(
        "## The same mouth, four ways\n"
        "Each column finds directions for the same mask, applies the first one and measures what moved. Compare the *difference* pictures and the "
        "*leak ratio* in the tables, at about equal change inside the mask (turn *strength* until *change inside* agrees).\n\n"
        "**Mean Difference Direction** and **PCA of h** need a set of pictures: see their help pages. `python dev.py bench method_comparison` does "
        "this for all methods.",
        380,
    )
    return Graph(
        "compare_methods",
        ((Group("1  Load and invert", ((note, face, image), (sigmas, invert))), Group("2  Find, edit, measure", tuple(columns), VIOLET)),),
    )


def _checkpoint(name: str, file: str, source: str, width: int) -> Graph:
    """Region directions on a text-to-image checkpoint."""
    model, vae = {"model": ("Checkpoint", "MODEL")}, {"vae": ("Checkpoint", "VAE")}
    square = {"upscale_method": "bilinear", "width": width, "height": width, "crop": "center"}
    loaders = (
        Node("Checkpoint", "CheckpointLoaderSimple", {"ckpt_name": file}, 340),
        Node("Picture", "LoadImage", {"image": "example.png"}, 340, 300),
        Node("Scale", "ImageScale", {"image": ("Picture", "IMAGE"), **square}, 340),
    )
    invert = (
        Node("Prompt", "CLIPTextEncode", {"clip": ("Checkpoint", "CLIP"), "text": "a photo"}, 340, 120),
        Node("Sigmas", "BasicScheduler", {**model, "scheduler": "normal", "steps": 30, "denoise": 1.0}, 340),
        Node(
            "Invert", "HSpaceInvertImage",
            {**model, **vae, "image": ("Scale", "IMAGE"), "sigmas": ("Sigmas", "SIGMAS"), "positive": ("Prompt", "CONDITIONING")}, 340, 240,
        ),
    )  # fmt: skip
    found = (
        Node("Painted", "MaskToImage", {"mask": ("Picture", "MASK")}, 340),
        Node("Scale mask", "ImageScale", {"image": ("Painted", "IMAGE"), **square}, 340),
        Node("Mask", "ImageToMask", {"image": ("Scale mask", "IMAGE"), "channel": "red"}, 340),
        Node(
            "Discover",
            "HSpaceDiscoverRegion",
            {**model, "trajectory": ("Invert", "trajectory"), "mask": ("Mask", "MASK"), "k": 4},
            340,
            240,
        ),
        Node("Report", "PreviewAny", {"source": ("Discover", "report")}, 340, 160),
    )
    atlas = (
        Node(
            "Atlas", "HSpaceDirectionAtlas",
            {**model, **vae, "trajectory": ("Invert", "trajectory"), "directions": ("Discover", "directions"), "strength": 20.0, "columns": 3, "count": 4}, 720, 460,
        ),
    )  # fmt: skip
    edit = (
        Node("Steer", "HSpaceSteer", {**model, "directions": ("Discover", "directions"), "strength": 30.0}),
        Node("Render", "HSpaceRenderTrajectory", {"model": ("Steer", "model"), "trajectory": ("Invert", "trajectory"), **vae}, picture=220),
        Node("Edited", "SaveImage", {"images": ("Render", "edited"), "filename_prefix": f"hspace/{name}"}, 420, 420),
    )
    note = Note(
        f"## Region directions on {source}\n"
        f"**Checkpoint**: `{file}`, in `ComfyUI/models/checkpoints`; any other of this family will do.\n\n"
        "**Picture**: load one and paint the region with *Open in MaskEditor* (right click). An unpainted picture has an empty mask, which *Discover* refuses.\n\n"
        "Invert with cfg 1 and a short prompt of what is there. *Discover* looks at t = 700; set *sigma* for finer or coarser changes. One discovery costs "
        "about 100 passes through the decoder half.\n\n"
        "**Without a checkpoint**: replace *Checkpoint* by *Load Face Model*, its *unconditional* in place of *Prompt*, and scale to 64x64.",
        440,
    )
    return Graph(
        name,
        (
            (
                Group("1  Load and invert", ((note, *loaders), invert)),
                Group("2  Discover", (found, atlas), VIOLET),
                Group("3  Steer", (edit,), GREEN),
            ),
        ),
    )


def discover_region_sd15() -> Graph:
    """Stable Diffusion 1.5."""
    return _checkpoint("discover_region_sd15", "v1-5-pruned-emaonly-fp16.safetensors", "Stable Diffusion 1.5", 512)


def discover_region_sdxl() -> Graph:
    """SDXL."""
    return _checkpoint("discover_region_sdxl", "sd_xl_base_1.0.safetensors", "SDXL", 1024)


GRAPHS = (
    discover_region,
    steer_saved_direction,
    direction_explorer,
    global_direction,
    compare_methods,
    discover_region_sd15,
    discover_region_sdxl,
)
