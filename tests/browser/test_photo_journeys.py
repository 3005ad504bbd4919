"""A person's own photograph, from the file to the edit at full size, in both renderers of the real editor."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from devtools import gestures
from devtools.console import ROOT

SIZE, FACE, AT = (1200, 900), 512, (344, 194)  # of the photograph; of the face in it, and its corner
MOUTH = np.asarray(Image.open(ROOT / "assets" / "portrait_mouth.png").convert("L")) > 128
ON_ITS_SIDE, ORIENTATION = 6, 0x0112  # of EXIF: a telephone that was held upright
ASTRONAUT = ROOT / "nodes" / "photo" / "eileen_collins.jpg"
ASTRONAUTS_MOUTH = [[(0.43, y), (0.48, y)] for y in (0.28, 0.3)]  # strokes, in shares of the photograph
PHOTO_IN = "Photo in photo out - edit region of a photo"
NODE_OF = "kind => window.app.graph.nodes.find(node => node.type === kind).id"
TEXTS_OF = "id => window.app.graph.getNodeById(id).widgets.map(widget => String(widget.value)).join(' ')"
FEATHER = 0.06  # as Paste Back has it: of the side of the cut square


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A drawn face on a wall and a photographed one, with grain, stored as a telephone stores them: turned."""
    folder = tmp_path_factory.mktemp("photographs")
    drawn = Image.new("RGB", SIZE, (138, 155, 107))
    portrait = Image.open(ROOT / "assets" / "portrait.png").convert("RGB")
    drawn.paste(portrait.resize((FACE, FACE), Image.Resampling.BICUBIC), AT)
    astronaut = Image.new("RGB", SIZE, (90, 110, 120))
    astronaut.paste(Image.open(ASTRONAUT).convert("RGB").resize((900, 900), Image.Resampling.LANCZOS), (150, 0))
    return {
        name: store_turned(picture, folder / f"{name}.jpg")
        for name, picture in {"drawn": drawn, "astronaut": astronaut}.items()
    }


def store_turned(picture: Image.Image, path):
    """Write a photograph with grain on its side, with a note that says so."""
    pixels = np.asarray(picture, dtype=float)
    grainy = pixels + np.random.default_rng(0).normal(0, 4, pixels.shape)
    turned = Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ORIENTATION] = ON_ITS_SIDE
    turned.save(path, quality=92, exif=exif)
    return path


def upright(path) -> np.ndarray:
    """What a person sees of a photograph, `[h w 3]`."""
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def mouth_strokes() -> list[list[gestures.Point]]:
    """Over the drawn mouth, in shares of the photograph."""
    rows, columns = np.nonzero(MOUTH)
    scale = FACE / len(MOUTH)
    left, right = (AT[0] + scale * edge for edge in (columns.min() + 1, columns.max()))
    lines = [AT[1] + scale * row for row in (rows.min() + 1, rows.mean(), rows.max())]
    return [[(left / SIZE[0], y / SIZE[1]), (right / SIZE[0], y / SIZE[1])] for y in lines]


def frame_strokes() -> list[list[gestures.Point]]:
    """Dots in the corners of the drawn face's square, a little inside."""
    near, far = 12, FACE - 12
    corners = [(AT[0] + x, AT[1] + y) for x in (near, far) for y in (near, far)]
    return [[(x / SIZE[0], y / SIZE[1]), ((x + 1) / SIZE[0], y / SIZE[1])] for x, y in corners]


def painted(person, node: int) -> np.ndarray:
    """Where the mask of a Load Image node is, as Load Image reads it, `[h w]`."""
    name = person.page.evaluate("id => window.app.graph.getNodeById(id).widgets[0].value", node)
    file = {"filename": name.removesuffix(" [input]"), "subfolder": "", "type": "input"}
    picture = Image.open(io.BytesIO(person.server.view(file)))
    assert picture.mode == "RGBA" and picture.size == SIZE
    return np.asarray(picture)[..., 3] < 255


def grown(mask: np.ndarray, margin: int) -> np.ndarray:
    """The rectangle around a mask, and so many pixels more."""
    rows, columns = np.nonzero(mask)
    region = np.zeros_like(mask)
    region[
        max(0, rows.min() - margin) : rows.max() + margin, max(0, columns.min() - margin) : columns.max() + margin
    ] = 1
    return region


def check_edit(result: np.ndarray, photograph: np.ndarray, mask: np.ndarray, side: float, least: float) -> None:
    """The edit is at full size, inside of the region and its soft edge, and nothing else has changed by a bit."""
    assert result.shape == photograph.shape
    change = np.abs(result.astype(int) - photograph).max(-1)
    assert not change[~grown(mask, round(3 * FEATHER * side))].any()
    assert change[mask].mean() > least


def test_a_photograph_on_the_face_model(person, quiet, photographs):
    """A telephone's picture of a (drawn) face: mouth and head are painted in the mask editor, the mouth is edited."""
    editor, page = person.editor, person.page
    gestures.choose_template(editor, "photo_edit")
    fit, paste, stitch = (page.evaluate(NODE_OF, kind) for kind in ("HSpaceFitPhoto", "HSpacePasteBack", "ImageStitch"))
    gestures.remove_before(editor, fit, ["image", "mask", "frame"])
    mouth, head = (gestures.drop_file(editor, photographs["drawn"], at) for at in ((120, 760), (120, 1000)))
    gestures.paint_mask(editor, mouth, mouth_strokes(), thickness=10, turns=1)
    gestures.paint_mask(editor, head, frame_strokes(), thickness=4, turns=1)
    for source, output, target, socket in (
        (mouth, "IMAGE", fit, "image"),
        (mouth, "MASK", fit, "mask"),
        (head, "MASK", fit, "frame"),
        (mouth, "IMAGE", paste, "original"),
        (mouth, "IMAGE", stitch, "image1"),
    ):
        gestures.connect(editor, source, output, target, socket)
    editor.run(timeout=300)
    steer, early = page.evaluate(NODE_OF, "HSpaceSteer"), ("HSpaceInvertImage", "HSpaceDiscoverRegion")
    gestures.set_values(editor, steer, direction=1, strength=-30.0)  # another look at the same discovery
    editor.run(timeout=300)
    assert not {str(page.evaluate(NODE_OF, kind)) for kind in early} & set(person.ran())
    (result,) = person.pictures()["Paste Back"]
    check_edit(result[..., :3], upright(photographs["drawn"]), painted(person, mouth), FACE, least=10)
    gestures.look_at(editor, [paste, page.evaluate(NODE_OF, "SaveImage")])
    person.keep_picture("photo")


def test_a_photograph_of_another_world_is_told_on_the_node(person, quiet, photographs):
    """A real face on the model of drawn faces: the edit is at full size all the same, and Invert Image warns."""
    editor, page = person.editor, person.page
    gestures.choose_template(editor, "photo_edit")
    fit, paste, stitch = (page.evaluate(NODE_OF, kind) for kind in ("HSpaceFitPhoto", "HSpacePasteBack", "ImageStitch"))
    gestures.remove_before(editor, fit, ["image", "mask", "frame"])
    photo = gestures.drop_file(editor, photographs["astronaut"], (120, 760))
    gestures.paint_mask(editor, photo, ASTRONAUTS_MOUTH, thickness=10, turns=1)
    for output, target, socket in (
        ("IMAGE", fit, "image"),
        ("MASK", fit, "mask"),
        ("IMAGE", paste, "original"),
        ("IMAGE", stitch, "image1"),
    ):
        gestures.connect(editor, photo, output, target, socket)
    editor.run(timeout=300)
    (result,) = person.pictures()["Paste Back"]
    check_edit(result[..., :3], upright(photographs["astronaut"]), painted(person, photo), 200, least=0.5)
    invert = page.evaluate(NODE_OF, "HSpaceInvertImage")
    gestures.look_at(editor, [invert])
    assert "not a picture of this model's world" in page.evaluate(TEXTS_OF, invert)
    person.keep_picture("warning")


def test_a_photograph_on_stable_diffusion(person, quiet, photographs):
    """A small checkpoint of its layout, as Load Checkpoint gives it, and the blueprint for photographs."""
    editor, page = person.editor, person.page
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("window.app.graph.nodes.length === 0")
    photo = gestures.drop_file(editor, photographs["astronaut"], (150, 500))
    gestures.paint_mask(editor, photo, ASTRONAUTS_MOUTH, thickness=10, turns=1)
    checkpoint = gestures.add_node(editor, "HSpaceTestCheckpoint", (0, 0), family="sd15", size=64)
    prompt = gestures.add_node(editor, "CLIPTextEncode", (400, 0), text="a photo of a woman")
    edit = gestures.place_blueprint(editor, PHOTO_IN, (900, 0))
    shown = gestures.add_node(editor, "PreviewImage", (1400, 0))
    for source, output, target, socket in (
        (checkpoint, "CLIP", prompt, "clip"),
        (checkpoint, "MODEL", edit, "model"),
        (checkpoint, "VAE", edit, "vae"),
        (prompt, "CONDITIONING", edit, "positive"),
        (photo, "IMAGE", edit, "photo"),
        (photo, "MASK", edit, "mask"),
        (edit, "photo", shown, "images"),
    ):
        gestures.connect(editor, source, output, target, socket)
    editor.run(timeout=300)
    (result,) = person.pictures()["Preview Image"]
    check_edit(result[..., :3], upright(photographs["astronaut"]), painted(person, photo), 200, least=0.5)
    gestures.look_at(editor, [prompt, shown])
    person.keep_picture("checkpoint")
