"""What the shipped workflows contain; positions in the editor's pixels."""

from __future__ import annotations

from typing import Any


def discover_region(node: Any, note: Any, group: Any, graph: Any) -> Any:
    """Invert a face, discover the directions of its mouth and eyes, look at them, apply one, measure."""
    nodes = (
        node("Face model", "HSpaceLoadFaceModel", at=(40, 120), size=(260, 90)),
        node("Image", "HSpaceDemoFace", {"seed": 35}, at=(40, 270), size=(280, 330)),
        node("Sigmas", "BasicScheduler", {"model": ("Face model", "model"), "scheduler": "karras", "steps": 25, "denoise": 1.0}, at=(380, 120), size=(280, 110)),
        node(
            "Invert", "HSpaceInvertImage", {"model": ("Face model", "model"), "image": ("Image", "image"), "sigmas": ("Sigmas", "SIGMAS")},
            at=(380, 290), size=(300, 420),
        ),
        *(_region(node, region, y) for region, y in (("mouth", 120), ("eyes", 830))),
        *(
            node(
                f"Atlas {region}", "HSpaceDirectionAtlas",
                {"model": ("Face model", "model"), "trajectory": ("Invert", "trajectory"), "directions": (f"Discover {region}", "directions"), "title": region},
                at=(1140, y), size=(560, 660),
            )
            for region, y in (("mouth", 120), ("eyes", 830))
        ),
        node("Both strips", "ImageStitch", {"image1": ("Atlas mouth", "sheet"), "image2": ("Atlas eyes", "sheet"), "direction": "down"}, at=(1780, 830), size=(260, 160)),
        node("Strip", "SaveImage", {"images": ("Both strips", "IMAGE"), "filename_prefix": "hspace/strip"}, at=(2080, 830), size=(420, 560)),
        node("Both spectra", "ImageStitch", {"image1": ("Discover mouth", "spectrum"), "image2": ("Discover eyes", "spectrum"), "direction": "down"}, at=(1780, 1040), size=(260, 160)),
        node("Spectrum", "SaveImage", {"images": ("Both spectra", "IMAGE"), "filename_prefix": "hspace/spectrum"}, at=(1780, 1250), size=(280, 300)),
        node(
            "Steer", "HSpaceSteer", {"model": ("Face model", "model"), "directions": ("Discover mouth", "directions"), "direction": 2, "strength": -25.0},
            at=(1780, 120), size=(280, 200),
        ),
        node("Render", "HSpaceRenderTrajectory", {"model": ("Steer", "model"), "trajectory": ("Invert", "trajectory")}, at=(2100, 120), size=(280, 200)),
        node("Edited", "PreviewImage", {"images": ("Render", "edited")}, at=(2420, 120), size=(240, 280)),
        node(
            "Measure", "HSpaceMeasureEdit",
            {"before": ("Render", "reconstruction"), "after": ("Render", "edited"), "mask": ("Image", "mouth")},
            at=(2100, 400), size=(300, 380),
        ),
        node("Table", "PreviewAny", {"source": ("Measure", "table")}, at=(2440, 440), size=(420, 340)),
    )  # fmt: skip
    notes = (
        note(
            "## Find what the mouth can do - without labels\n"
            "1. **Invert** walks the picture up the noise levels and back (the number on the node is the PSNR).\n"
            "2. **Discover** looks for directions of the U-Net's bottleneck that change the masked region and leave the rest.\n"
            "3. **Atlas** shows each direction from -2a to +2a. Pick the one you like.\n"
            "4. **Steer** turns it into a MODEL with a dial; **Measure** says what moved and what leaked.\n\n"
            "Press *Run*. Then change *strength* or *direction* on Steer: only the last nodes run again.",
            at=(40, 650), size=(320, 420),
        ),
        note(
            "**Your own picture**: replace *Image* by Load Image and Upscale Image (64x64 for this model) and draw the mask with *Open in MaskEditor*. "
            "**Your own model**: Load Pixel Diffusion Model reads DDPM and guided-diffusion checkpoints.",
            at=(380, 760), size=(300, 220),
        ),
    )  # fmt: skip
    groups = (
        group("1  Load and invert", (20, 60, 680, 1030), "#3f789e"),
        group("2  Discover", (730, 60, 990, 1450), "#8a5a9e"),
        group("3  Steer and measure", (1760, 60, 1120, 740), "#5a8a4e"),
    )
    return graph("discover_region", nodes, notes, groups)


def _region(node: Any, region: str, y: int) -> Any:
    return node(
        f"Discover {region}", "HSpaceDiscoverRegion",
        {"model": ("Face model", "model"), "trajectory": ("Invert", "trajectory"), "mask": ("Image", region)},
        at=(750, y), size=(340, 560),
    )  # fmt: skip


def steer_saved_direction(node: Any, note: Any, group: Any, graph: Any) -> Any:
    """Load a saved direction, steer the MODEL, and use it in stock samplers: on an inverted picture and on fresh noise."""
    nodes = (
        node("Face model", "HSpaceLoadFaceModel", at=(40, 120), size=(260, 90)),
        node("Directions", "HSpaceLoadDirections", {"file": "hspace/mouth.safetensors"}, at=(40, 260), size=(300, 80)),
        node("Steer", "HSpaceSteer", {"model": ("Face model", "model"), "directions": ("Directions", "directions"), "direction": 2, "strength": -25.0}, at=(400, 120), size=(280, 200)),
        node("Image", "HSpaceDemoFace", {"seed": 34}, at=(40, 400), size=(280, 330)),
        node("Sigmas", "BasicScheduler", {"model": ("Face model", "model"), "scheduler": "karras", "steps": 25}, at=(400, 380), size=(280, 110)),
        node(
            "Invert", "HSpaceInvertImage", {"model": ("Face model", "model"), "image": ("Image", "image"), "sigmas": ("Sigmas", "SIGMAS")},
            at=(400, 540), size=(300, 420),
        ),
        node("Resume", "HSpaceResumeTrajectory", {"trajectory": ("Invert", "trajectory")}, at=(760, 540), size=(260, 120)),
        node("Guider", "BasicGuider", {"model": ("Steer", "model"), "conditioning": ("Face model", "unconditional")}, at=(760, 420), size=(260, 60)),
        node("No noise", "DisableNoise", at=(760, 340), size=(200, 40)),
        node(
            "Sampler", "SamplerCustomAdvanced",
            {"noise": ("No noise", "NOISE"), "guider": ("Guider", "GUIDER"), "sampler": ("Resume", "sampler"), "sigmas": ("Resume", "sigmas"),
             "latent_image": ("Invert", "noisiest")},
            at=(1080, 400), size=(260, 130),
        ),
        node("Decode", "VAEDecode", {"samples": ("Sampler", "output"), "vae": ("Face model", "vae")}, at=(1380, 400), size=(180, 60)),
        node("Edited", "SaveImage", {"images": ("Decode", "IMAGE"), "filename_prefix": "hspace/edited"}, at=(1600, 400), size=(260, 320)),
        node("Measure", "HSpaceMeasureEdit", {"before": ("Invert", "reconstruction"), "after": ("Decode", "IMAGE"), "mask": ("Image", "mouth")}, at=(1080, 580), size=(300, 380)),
        node("Table", "PreviewAny", {"source": ("Measure", "table")}, at=(1420, 760), size=(440, 320)),
        node("Empty", "EmptyImage", {"width": 64, "height": 64, "batch_size": 4, "color": 8421504}, at=(400, 1020), size=(260, 150)),
        node("Encode", "VAEEncode", {"pixels": ("Empty", "IMAGE"), "vae": ("Face model", "vae")}, at=(700, 1020), size=(180, 60)),
        node(
            "New faces", "KSampler",
            {"model": ("Steer", "model"), "seed": 3, "steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler": "karras",
             "positive": ("Face model", "unconditional"), "negative": ("Face model", "unconditional"), "latent_image": ("Encode", "LATENT"), "denoise": 1.0},
            at=(920, 1020), size=(280, 260),
        ),
        node("Decode faces", "VAEDecode", {"samples": ("New faces", "LATENT"), "vae": ("Face model", "vae")}, at=(1240, 1120), size=(180, 60)),
        node("New", "SaveImage", {"images": ("Decode faces", "IMAGE"), "filename_prefix": "hspace/new_faces"}, at=(1460, 1120), size=(400, 320)),
    )  # fmt: skip
    notes = (
        note(
            "## A saved direction on another face\n"
            "*Load Directions* reads what *Save Directions* wrote (this one comes with the pack, found on a different face). **Steer** gives a stock MODEL, so it runs in "
            "**SamplerCustomAdvanced** (above, on the inverted picture) and in **KSampler** (below, on fresh noise).\n\n"
            "Try *strength* -20, another *direction*, or *asymmetric* on Resume.",
            at=(40, 780), size=(320, 300),
        ),
    )  # fmt: skip
    groups = (
        group("An inverted picture", (380, 60, 1500, 910), "#5a8a4e"),
        group("New faces from noise", (380, 980, 1500, 480), "#8a5a9e"),
    )
    return graph("steer_saved_direction", nodes, notes, groups)


GRAPHS = (discover_region, steer_saved_direction)
