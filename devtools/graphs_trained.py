"""Shipped workflows of trained edits: Asyrp, DiffusionCLIP and the rectifier."""

from __future__ import annotations

from .graph import Graph, Group, Node, Note
from .graphs import GREEN, MODEL, VIOLET, load


def _few_steps(seed: int, steps: int, high: float = 4.0) -> tuple[Node, ...]:
    """A face inverted by plain DDIM in few steps, up to less noise."""
    face, image, _, _ = load(seed)
    sigmas = Node("Sigmas", "KarrasScheduler", {"steps": steps, "sigma_max": high, "sigma_min": 0.02, "rho": 7.0})
    invert = Node(
        "Invert",
        "HSpaceInvertImage",
        {**MODEL, "image": ("Image", "image"), "sigmas": ("Sigmas", "SIGMAS"), "method": "ddim B"},
        picture=240,
    )
    return face, image, sigmas, invert


def _measured(before: tuple[str, str], after: tuple[str, str], mask: str = "mouth") -> tuple[Node, ...]:
    return (
        Node("Measure", "HSpaceMeasureEdit", {"before": before, "after": after, "mask": ("Image", mask)}, 460, 240),
        Node("Table", "PreviewAny", {"source": ("Measure", "table")}, 460, 560),
    )


def asyrp_smile() -> Graph:
    """A trained shift of h: the one that comes with the pack on an inverted face, and one trained here and now."""
    face, image, sigmas, invert = load(34)
    apply = (
        Node("Smile", "HSpaceLoadTrained", {"file": "hspace/smile.safetensors"}),
        Node("Steer", "HSpaceSteerTrained", {**MODEL, "trained": ("Smile", "trained"), "strength": 1.0}),
        Node(
            "Render",
            "HSpaceRenderTrajectory",
            {"model": ("Steer", "model"), "trajectory": ("Invert", "trajectory"), "asymmetric": True},
            picture=220,
        ),
        Node("Edited", "SaveImage", {"images": ("Render", "edited"), "filename_prefix": "hspace/asyrp"}, 300, 300),
    )
    train = (
        Node("Faces", "HSpaceDemoFace", {"seed": 100, "count": 8}),
        Node("Short", "BasicScheduler", {**MODEL, "scheduler": "karras", "steps": 12, "denoise": 1.0}),
        Node(
            "Invert faces",
            "HSpaceInvertImage",
            {**MODEL, "image": ("Faces", "image"), "sigmas": ("Short", "SIGMAS"), "method": "ddim B"},
            picture=240,
        ),
        Node("Embedder", "HSpaceLoadFaceEmbedder"),
    )
    own = (
        Node(
            "Train", "HSpaceTrainAsyrp",
            {**MODEL, "trajectory": ("Invert faces", "trajectory"), "embedder": ("Embedder", "embedder"), "source": "face", "target": "face with glasses",
             "sigma_edit": 0.5, "epochs": 3, "batch": 4, "lr": 0.003}, 420, 240,
        ),
        Node("Steer own", "HSpaceSteerTrained", {**MODEL, "trained": ("Train", "trained"), "strength": 1.0}),
        Node("Render own", "HSpaceRenderTrajectory", {"model": ("Steer own", "model"), "trajectory": ("Invert", "trajectory"), "asymmetric": True}, picture=220),
        Node("Edited too", "SaveImage", {"images": ("Render own", "edited"), "filename_prefix": "hspace/asyrp_own"}, 300, 300),
    )  # fmt: skip
    note = Note(
        "## A trained shift of the bottleneck (Asyrp)\n"
        "**Smile** comes with the pack. *Steer* adds it to h, *Render* with **asymmetric** on edits only what each step predicts. Turn *strength* to -1 or 2.\n\n"
        "**Train** learns a shift of its own from two prompts and eight faces, in about a minute on two cores: the model stays as it is, the curve "
        "is drawn while it runs. Change *target* to another thing the face world has (long hair, closed eyes, a green background) and press *Run*; keep it "
        "with *Save Trained Edit*.\n\n"
        "On photographs: *Load Pixel Diffusion Model*, *CLIP Embedder*, 100 pictures, and *Load Asyrp Checkpoint* for the released ones.",
        420,
    )
    return Graph(
        "asyrp_smile",
        (
            (
                Group("1  Load and invert", ((note, face, image), (sigmas, invert))),
                Group("2  A trained smile", (apply, _measured(("Render", "reconstruction"), ("Render", "edited"))), GREEN),
            ),
            (Group("3  Train another edit", (train, own), VIOLET),),
        ),
    )


def diffusionclip() -> Graph:
    """Fine-tuned weights, mixed in by degree and by noise level, and as a stock LoRA."""
    face, image, sigmas, invert = _few_steps(56, 20)
    tuned = (
        Node("Red hair", "HSpaceLoadFineTuned", {"file": "hspace/red hair.safetensors"}),
        Node("Glasses", "HSpaceLoadFineTuned", {"file": "hspace/glasses.safetensors"}),
        Node("Red", "HSpaceSteerFineTuned", {**MODEL, "lora": ("Red hair", "lora"), "degree": 0.7}),
        Node("Both", "HSpaceSteerFineTuned", {"model": ("Red", "model"), "lora": ("Glasses", "lora"), "degree": 0.5}),
    )
    render = (
        Node("Render red", "HSpaceRenderTrajectory", {"model": ("Red", "model"), "trajectory": ("Invert", "trajectory")}, picture=220),
        Node("Edited", "SaveImage", {"images": ("Render red", "edited"), "filename_prefix": "hspace/red_hair"}, 300, 300),
        Node("Render both", "HSpaceRenderTrajectory", {"model": ("Both", "model"), "trajectory": ("Invert", "trajectory")}, picture=220),
        Node("Edited too", "SaveImage", {"images": ("Render both", "edited"), "filename_prefix": "hspace/both"}, 300, 300),
    )
    stock = (
        Node("As LoRA", "LoraModelLoader", {**MODEL, "lora": ("Red hair", "lora"), "strength_model": 0.4, "bypass": False}),
        Node("Empty", "EmptyImage", {"width": 64, "height": 64, "batch_size": 4, "color": 8421504}),
        Node("Encode", "VAEEncode", {"pixels": ("Empty", "IMAGE"), "vae": ("Face model", "vae")}),
        Node(
            "New faces", "KSampler",
            {"model": ("As LoRA", "model"), "seed": 3, "steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler": "karras",
             "positive": ("Face model", "unconditional"), "negative": ("Face model", "unconditional"), "latent_image": ("Encode", "LATENT"), "denoise": 1.0},
            picture=300,
        ),
        Node("Decode", "VAEDecode", {"samples": ("New faces", "LATENT"), "vae": ("Face model", "vae")}),
        Node("New", "SaveImage", {"images": ("Decode", "IMAGE"), "filename_prefix": "hspace/red_haired"}, 300, 300),
    )  # fmt: skip
    note = Note(
        "## Fine-tuned networks (DiffusionCLIP)\n"
        "**Red hair** is the difference that fine-tuning made to the weights. *Steer With Fine-Tuned Weights* mixes the two networks' predictions: "
        "**degree** 0 is the original, 1 the fine-tuned one. Two in a row combine attributes, each in its own window of noise levels if you like.\n\n"
        "The same difference is a stock LORA_MODEL: group 3 uses it with the stock loader and KSampler.\n\n"
        "*Train DiffusionCLIP* makes your own; *Load DiffusionCLIP Checkpoint* reads the released ones.",
        360,
    )
    return Graph(
        "diffusionclip",
        (
            (
                Group("1  Load and invert", ((note, face, image), (sigmas, invert))),
                Group("2  Mix", (tuned, render, _measured(("Render red", "reconstruction"), ("Render red", "edited"), "hair")), GREEN),
                Group("3  As a stock LoRA", (stock,), VIOLET),
            ),
        ),
    )


def rectifier() -> Graph:
    """Few steps of plain DDIM, corrected, and edited from the original trajectory."""
    face, image, sigmas, invert = _few_steps(34, 6)
    load = (
        Node("Rectifier", "HSpaceLoadRectifier", {"file": "hspace/reconstruction.safetensors"}),
        Node("Smile", "HSpaceLoadRectifier", {"file": "hspace/smile.safetensors"}),
    )
    links = {"trajectory": ("Invert", "trajectory"), "rectifier": ("Rectifier", "rectifier")}
    rebuilt = (
        Node("Rebuild", "HSpaceApplyRectifier", {**MODEL, **links, "strength": 0.0}),
        Node(
            "Render rebuilt", "HSpaceRenderTrajectory", {"model": ("Rebuild", "model"), "trajectory": ("Invert", "trajectory")}, picture=220
        ),
        Node("Plain DDIM", "PreviewImage", {"images": ("Render rebuilt", "reconstruction")}, 300, 300),
        Node("Rectified", "PreviewImage", {"images": ("Render rebuilt", "edited")}, 300, 300),
    )
    edit = (
        Node("Edit", "HSpaceApplyRectifier", {**MODEL, **links, "edit": ("Smile", "rectifier"), "strength": 1.0}),
        Node("Render edit", "HSpaceRenderTrajectory", {"model": ("Edit", "model"), "trajectory": ("Invert", "trajectory")}, picture=220),
        Node("Edited", "SaveImage", {"images": ("Render edit", "edited"), "filename_prefix": "hspace/rectifier"}, 300, 300),
    )
    note = Note(
        "## High fidelity in six steps\n"
        "Plain DDIM with six steps loses detail. The **rectifier**, a small network that sees the picture and what the model predicts, corrects the "
        "kernels of the decoder at every step: compare *Plain DDIM* and *Rectified*.\n\n"
        "**Edit** goes from the reconstruction (*strength* 0) to what a second rectifier was trained for (1). Load *hspace/red hair* or *hspace/glasses* instead of "
        "*hspace/smile*, or train your own with *Train Rectifier* and *Train Rectifier Edit*.",
        340,
    )
    return Graph(
        "rectifier",
        (
            (
                Group("1  Load and invert", ((note, face, image), (sigmas, invert, *load))),
                Group("2  Rebuild", (rebuilt,), VIOLET),
                Group("3  Edit", (edit, _measured(("Image", "image"), ("Render edit", "edited"))), GREEN),
            ),
        ),
    )


def rectified_steering() -> Graph:
    """A direction found without training, with and without the rectifier that holds on to the rest."""
    face, image, sigmas, invert = _few_steps(34, 10)
    steer = (
        Node("Directions", "HSpaceLoadDirections", {"file": "hspace/mouth.safetensors"}),
        Node("Steer", "HSpaceSteer", {**MODEL, "directions": ("Directions", "directions"), "direction": 2, "strength": 18.0}),
        Node("Rectifier", "HSpaceLoadRectifier", {"file": "hspace/reconstruction.safetensors"}),
        Node(
            "Rectify", "HSpaceApplyRectifier",
            {"model": ("Steer", "model"), "trajectory": ("Invert", "trajectory"), "rectifier": ("Rectifier", "rectifier"), "strength": 0.0, "amount": 1.0},
        ),
    )  # fmt: skip
    plain = (
        Node("Render plain", "HSpaceRenderTrajectory", {"model": ("Steer", "model"), "trajectory": ("Invert", "trajectory")}, picture=220),
        Node("Steered", "PreviewImage", {"images": ("Render plain", "edited")}, 300, 300),
        Node(
            "Measure plain",
            "HSpaceMeasureEdit",
            {"before": ("Image", "image"), "after": ("Render plain", "edited"), "mask": ("Image", "mouth")},
            460,
            240,
        ),
        Node("Table plain", "PreviewAny", {"source": ("Measure plain", "table")}, 460, 460),
    )
    better = (
        Node(
            "Render rectified",
            "HSpaceRenderTrajectory",
            {"model": ("Rectify", "model"), "trajectory": ("Invert", "trajectory")},
            picture=220,
        ),
        Node("Edited", "SaveImage", {"images": ("Render rectified", "edited"), "filename_prefix": "hspace/rectified"}, 300, 300),
        *_measured(("Image", "image"), ("Render rectified", "edited")),
    )
    note = Note(
        "## Steering that keeps the picture\n"
        "Ten steps of plain DDIM do not rebuild the picture exactly, and a steered run keeps that error. **Rectify** after **Steer** takes it out: the rectifier "
        "compares the picture with what the model predicts *without* the edit, so that it corrects the reconstruction and leaves the edit alone.\n\n"
        "Both tables are measured against the **original picture**. Turn *amount* to 0 to see the difference.",
        320,
    )
    return Graph(
        "rectified_steering",
        (
            (
                Group("1  Load and invert", ((note, face, image), (sigmas, invert))),
                Group("2  Steer, then rectify", (steer,), VIOLET),
                Group("3  Without and with", (plain, better), GREEN),
            ),
        ),
    )


TRAINED_GRAPHS = (asyrp_smile, diffusionclip, rectifier, rectified_steering)
