"""Pictures of the documentation from the shipped workflows: ``python -m devtools.pictures [NAME ...]``.

Each is a row of labelled pictures that a workflow shows, enlarged from the 64 pixels of the face world. They lie in
``web/docs/pictures``, where the help pages of the editor, the README and ``docs/`` all find them. Look at the result:
a picture that has not changed needs no new commit.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from . import host
from .client import Client
from .console import ROOT, say
from .server import Server
from .workflow_names import role_of
from .workflows import FOLDER

PICTURES = ROOT / "web" / "docs" / "pictures"
PAPER, INK = (255, 255, 255), (60, 64, 72)
GAP, WIDTH, LIMIT = 6, 800, 40_000  # pixels, pixels, bytes
QUALITIES = (86, 80, 72, 64)
SHOWN = {
    "HSpaceDemoFace": ("",),
    "HSpaceIntoDomain": ("",),
    "HSpaceRenderTrajectory": (" edited", " reconstruction"),
    "ImageQuantize": ("",),
    "ImageCompositeMasked": ("",),
    "MaskToImage": ("",),
    "VAEDecode": ("",),
}  # first outputs that get a preview: ending of the role
Tile = tuple[str, int, str]  # role of a node (its title if it has none), number of its picture, label

RENDER = "Render Trajectory"

# Name of the picture -> the workflow and its tiles. A label says what a reader sees. "system" is a pair of the README.
ROWS: dict[str, tuple[str, list[Tile]]] = {
    "hero_direction": (
        "discover_region",
        [(f"{RENDER} reconstruction", 0, "before"), (f"{RENDER} edited", 0, "after")],
    ),
    "hero_prompt": ("edit_noise_edit_friendly", [("Image", 0, "before"), ("Edited inside", 0, "after")]),
    "hero_code": ("edit_codes_diffae_manipulate", [("Image", 0, "before"), ("Glasses on", 0, "after")]),
    "system_rbe": (
        "discover_region",
        [(f"{RENDER} reconstruction", 0, "before"), (f"{RENDER} edited", 0, "mouth steered")],
    ),
    "system_loco": (
        "discover_compare_methods",
        [("LOCO Edit reconstruction", 0, "before"), ("LOCO Edit edited", 0, "mouth moved")],
    ),
    "system_asyrp": ("train_asyrp", [("Image", 0, "before"), ("Edited", 0, "smile")]),
    "system_diffusionclip": ("edit_weights_diffusionclip", [("Image", 0, "before"), ("Edited", 0, "red hair")]),
    "system_rectifier": ("edit_weights_rectifier", [("Image", 0, "before"), ("Edited", 0, "smile, 6 steps")]),
    "system_edit_friendly": ("edit_noise_edit_friendly", [("Image", 0, "before"), ("Edited", 0, "red hair")]),
    "system_exact": ("edit_noise_exact_inversion", [("Image", 0, "before"), ("Edited", 0, "red hair, smile")]),
    "system_ledits": ("edit_noise_ledits", [("Image", 0, "before"), ("Edited", 0, "glasses, red hair")]),
    "system_sdedit": ("edit_noise_sdedit", [("Strokes", 0, "painted"), ("Edited", 0, "denoised")]),
    "system_latent_svd": ("edit_noise_latent_svd", [("Source alone", 0, "before"), ("Mixed", 0, "mixed")]),
    "system_p2p": ("edit_attention_prompt_to_prompt", [("Image", 0, "brown hair"), ("Edited", 1, "blond hair")]),
    "system_pnp": ("edit_attention_plug_and_play", [("Image", 0, "before"), ("Edited", 0, "three words more")]),
    "system_null_text": ("invert_null_text", [("Image", 0, "before"), ("Edited", 0, "red hair, smile")]),
    "system_diffae": ("edit_codes_diffae_manipulate", [("Image", 0, "before"), ("Red hair too", 0, "two attributes")]),
    "system_hdae": ("edit_codes_hdae_style_mix", [("Image", 0, "before"), ("With level 1", 0, "style, one level")]),
    "system_pada": ("edit_codes_pada_age", [("Image", 0, "before"), ("Variants", 2, "aged")]),
    "system_deltaedit": ("edit_codes_deltaedit", [("Image", 0, "before"), ("Open mouth edit", 0, "open mouth")]),
    "system_diffmorpher": ("edit_weights_diffmorpher", [("Frames", 0, "one picture"), ("Frames", 4, "half-way")]),
    "faces_demo": (
        "discover_global",
        [("Image", n, label) for n, label in enumerate(("face 1", "face 2", "face 3", "face 4"))],
    ),
    "invert_null_text": (
        "invert_null_text",
        [
            ("Image", 0, "original"),
            ("Plain", 0, "plain, cfg 3"),
            ("Rebuilt", 0, "fitted negative"),
            ("Edited", 0, "new prompt"),
        ],
    ),
    "train_asyrp": ("train_asyrp", [("Image", 0, "original"), ("Edited", 0, "smile"), ("Edited too", 0, "glasses")]),
    "edit_attention_word_mask": (
        "edit_attention_word_mask",
        [("Image", 0, "original"), ("Where the words are", 0, "hair, by words"), ("Edited", 0, "edited there")],
    ),
    "edit_noise_flowedit": (
        "edit_noise_flowedit",
        [("Image", 0, "original"), ("Half", 0, "dial 0.5"), ("Edited", 0, "dial 1")],
    ),
    "edit_noise_edit_dial": (
        "edit_noise_edit_dial",
        [("Image", 0, "original"), ("Plain edit", 0, "plain edit"), ("Edited", 0, "dial 1, rest kept")],
    ),
    "edit_noise_edit_friendly": (
        "edit_noise_edit_friendly",
        [("Image", 0, "original"), ("Edited", 0, "red hair"), ("Edited inside", 0, "inside the mask")],
    ),
    "edit_noise_exact_inversion": (
        "edit_noise_exact_inversion",
        [("Image", 0, "original"), ("Rebuilt", 0, "rebuilt"), ("Edited", 0, "new prompt")],
    ),
    "edit_noise_ledits": ("edit_noise_ledits", [("Image", 0, "original"), ("Edited", 0, "glasses, red hair")]),
    "edit_noise_sdedit": (
        "edit_noise_sdedit",
        [("Image", 0, "original"), ("Strokes", 0, "painted"), ("Edited", 0, "denoised")],
    ),
    "edit_noise_proximal": (
        "edit_noise_proximal",
        [("Image", 0, "original"), ("Negative prompt", 0, "plain guidance"), ("Edited", 0, "proximal")],
    ),
    "edit_noise_recolour": ("edit_noise_recolour", [("Image", 0, "original"), ("Edited", 0, "painted hair")]),
    "edit_noise_latent_svd": (
        "edit_noise_latent_svd",
        [("Source alone", 0, "original"), ("Scaled", 0, "scaled"), ("Mixed", 0, "mixed"), ("Edited", 0, "fitted")],
    ),
    "edit_attention_prompt_to_prompt": (
        "edit_attention_prompt_to_prompt",
        [
            ("Image", 0, "original"),
            ("Edited", 0, "red hair"),
            ("Edited", 1, "blond hair"),
            ("As picture", 1, "may change"),
        ],
    ),
    "edit_attention_plug_and_play": (
        "edit_attention_plug_and_play",
        [("Image", 0, "original"), ("Prompt alone", 0, "prompt alone"), ("Edited", 0, "with features")],
    ),
    "edit_codes_diffae_manipulate": (
        "edit_codes_diffae_manipulate",
        [
            ("Image", 0, "original"),
            ("Code alone", 0, "code alone"),
            ("Glasses on", 0, "glasses"),
            ("Red hair too", 0, "red hair too"),
        ],
    ),
    "edit_codes_diffae_interpolate": (
        "edit_codes_diffae_interpolate",
        [
            ("On the way", 0, "0"),
            ("On the way", 2, "2/7"),
            ("On the way", 3, "3/7"),
            ("On the way", 5, "5/7"),
            ("On the way", 7, "1"),
        ],
    ),
    "edit_codes_sample": ("edit_codes_diffae_interpolate", [("New people", n, f"new {n + 1}") for n in (0, 2, 3, 5)]),
    "edit_codes_hdae_style_mix": (
        "edit_codes_hdae_style_mix",
        [("Image", 0, "face"), ("Style image", 0, "style"), *((f"With level {n}", 0, f"level {n}") for n in range(3))],
    ),
    "edit_codes_pada_age": (
        "edit_codes_pada_age",
        [("Image", 0, "original"), *(("Variants", n, f"variant {n + 1}") for n in range(3))],
    ),
    "edit_codes_deltaedit": (
        "edit_codes_deltaedit",
        [("Image", 0, "original"), ("Blond edit", 0, "blond hair"), ("Open mouth edit", 0, "open mouth")],
    ),
    "edit_weights_diffusionclip": (
        "edit_weights_diffusionclip",
        [("Image", 0, "original"), ("Edited", 0, "red hair"), ("Edited too", 0, "glasses too")],
    ),
    "edit_weights_rectifier": (
        "edit_weights_rectifier",
        [
            ("Image", 0, "original"),
            ("rebuilt reconstruction", 0, "plain, 6 steps"),
            ("rebuilt edited", 0, "rectified"),
            ("Edited", 0, "smile"),
        ],
    ),
    "edit_weights_rectified_steering": (
        "edit_weights_rectified_steering",
        [("Image", 0, "original"), ("plain edited", 0, "steered"), ("Edited", 0, "and rectified")],
    ),
    "discover_transport": (
        "discover_transport",
        [("Image", 0, "another face"), ("Edited as it is", 0, "as it is"), ("Edited transported", 0, "transported")],
    ),
    "edit_directions_dials": (
        "01_start_here",
        [("Demo Face — Image", 0, "before"), ("Edit Image by Dials (expression, age, hair)", 0, "smile at 1")],
    ),
    "edit_directions_asyrp_mean": (
        "edit_directions_asyrp_mean",
        [("Into The Domain", 0, "before"), ("Edited", 0, "mean smile")],
    ),
    "edit_weights_domain": (
        "edit_directions_asyrp_mean",
        [("Image", 0, "face"), ("Drawing", 0, "as a drawing"), ("Into The Domain", 0, "in the domain")],
    ),
    "edit_weights_diffmorpher": (
        "edit_weights_diffmorpher",
        [("Frames", n, f"frame {n + 1}") for n in (0, 2, 3, 5, 7)],
    ),
}

# Name of the picture -> the workflow, the node whose own picture it is, and how much of it from the top (None: all).
SHEETS: dict[str, tuple[str, str, float | None]] = {
    "photo_edit": ("photo_edit", "The photograph, before and after", None),
    "check_model": ("measure_check_model", "Check Model", 0.44),
    "invert_image": ("discover_region", "Invert Image", None),
    "discover_plot": ("discover_region", "Discover Region Directions — mouth", None),
    "discover_region": ("discover_region", "Direction Atlas — mouth", 0.415),
    "discover_global": ("discover_global", "Direction Atlas", 0.67),
    "edit_directions_steer_saved": ("edit_directions_steer_saved", "Measure Edit", None),
    "edit_noise_spectrum": ("edit_noise_latent_svd", "Latent SVD — Scale", None),
}


def main() -> None:
    """Run the workflows that are asked for and draw their pictures."""
    sources = {**{name: row[0] for name, row in ROWS.items()}, **{name: sheet[0] for name, sheet in SHEETS.items()}}
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(sources)} (default: all)")
    names = parser.parse_args().names or list(sources)
    host.ensure_host()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Server("pictures", fresh=True) as process, process.client() as client:
        for workflow in dict.fromkeys(sources[name] for name in names):
            shown = run_workflow(client, json.loads((FOLDER / "api" / f"{workflow}.json").read_text(encoding="utf-8")))
            for name in names:
                if sources[name] == workflow:
                    write_small(PICTURES / f"{name}.jpg", draw(name, shown))
                    say("pictures", f"wrote {name}.jpg")


def write_small(path: Path, picture: Image.Image) -> None:
    """Write a picture in the best quality below the limit: every clone of the repository carries it for ever."""
    for quality in QUALITIES:
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, subsampling=0, optimize=True)
        if data.tell() < LIMIT:
            break
    path.write_bytes(data.getvalue())


def draw(name: str, shown: dict[str, list[Image.Image]]) -> Image.Image:
    """One picture of the documentation from what its workflow shows."""
    if name in SHEETS:
        _, title, share = SHEETS[name]
        return cut_sheet(shown[title][0], share)
    return (draw_column if name.startswith("hero") else draw_row)(ROWS[name][1], shown)


def run_workflow(client: Client, prompt: dict) -> dict[str, list[Image.Image]]:
    """Every picture that the nodes of a workflow show, by the role of the node, and by its title.

    Drawn faces and rendered pictures come with them, although the workflow may show neither.
    """
    previews = {}
    for number, entry in prompt.items():
        for output, ending in enumerate(SHOWN.get(entry["class_type"], ())):
            previews[f"{number} {output}"] = {
                "class_type": "PreviewImage",
                "inputs": {"images": [number, output]},
                "_meta": {"title": entry["_meta"]["title"] + ending},
            }
    prompt = prompt | previews
    result = client.queue(prompt, timeout=1800)
    shown = {}
    for number, entry in prompt.items():  # previews last: they are not enlarged
        files = result.outputs.get(number, {}).get("images")
        if files:
            pictures = [Image.open(io.BytesIO(client.view(file))).convert("RGB") for file in files]
            title = entry["_meta"]["title"]
            shown |= {title: pictures, role_of(title): pictures}
    return shown


def draw_row(tiles: list[Tile], pictures: dict[str, list[Image.Image]]) -> Image.Image:
    """The tiles side by side, each over its label."""
    side = 192 if len(tiles) < 4 else 144
    text = side // 9
    shown = [pictures[title][number] for title, number, _ in tiles]
    widths = [round(side * one.width / one.height) for one in shown]
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(tiles) - 1), side + 2 * text), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=text)
    left = 0
    for one, width, (_, _, label) in zip(shown, widths, tiles, strict=True):
        sheet.paste(one.resize((width, side), Image.Resampling.LANCZOS), (left, 0))
        draw.text((left + width / 2, side + text), label, fill=INK, font=font, anchor="mm")
        left += width + GAP
    return sheet


def draw_column(tiles: list[Tile], pictures: dict[str, list[Image.Image]]) -> Image.Image:
    """The tiles one below the other, larger and without labels."""
    side = 256
    sheet = Image.new("RGB", (side, len(tiles) * (side + GAP) - GAP), PAPER)
    for i, (title, number, _) in enumerate(tiles):
        sheet.paste(pictures[title][number].resize((side, side), Image.Resampling.LANCZOS), (0, i * (side + GAP)))
    return sheet


def cut_sheet(picture: Image.Image, share: float | None) -> Image.Image:
    """The upper share of a node's own picture, no wider than the help panel needs."""
    picture = picture.crop((0, 0, picture.width, round(picture.height * (share or 1))))
    width = min(picture.width, WIDTH)
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
