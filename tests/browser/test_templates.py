"""The shipped workflows as a user meets them: in the template browser, loaded, run from the button, looked at."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devtools import workflows

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


def picture(server, file: dict) -> np.ndarray:
    """A picture that a node shows, `[h w 3]` in 0..1."""
    return np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB"), dtype=np.float64) / 255


def test_the_template_browser_shows_all_with_their_thumbnails(editor):
    shown = editor.template_names()
    for name in NAMES:
        assert name.replace("_", " ").lower() in shown.replace("_", " ").lower()
    for name in NAMES:  # pictures are fetched as they come into view
        card = editor.page.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()
        thumbnail = card.locator("img").first
        thumbnail.wait_for(timeout=20_000)
        editor.page.wait_for_function(
            "i => i.complete && i.naturalWidth", arg=thumbnail.element_handle(), timeout=20_000
        )
    assert editor.screenshot("templates", fit=False).stat().st_size > 10_000


@pytest.fixture(scope="module")
def facts(server):
    return server.get("/object_info")


@pytest.mark.parametrize("name", NAMES)
def test_the_editor_would_send_what_lies_in_the_api_folder(shared_editor, facts, name):
    editor = shared_editor
    editor.load(editor.template(name))
    sent = editor.to_prompt()
    shipped = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    assert {key: (node["class_type"], node["inputs"]) for key, node in sent.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in shipped.items()
    }
    assert list(workflows.find_file_faults(name, editor, facts)) == []


def test_discover_region_runs_from_the_button(editor, server):
    editor.open(template="discover_region")
    editor.run(timeout=600)
    pictures = editor.pictures()
    named = {"Invert Image", "Render Trajectory", "Measure Edit", "Save Image — Strip", "Save Image — Spectrum"}
    both = {
        f"{node} — {part}" for node in ("Discover Region Directions", "Direction Atlas") for part in ("mouth", "eyes")
    }
    assert named | both <= set(pictures), f"shown: {sorted(pictures)}"
    before, after = (picture(server, pictures[title][0]) for title in ("Demo Face — Image", "Render Trajectory"))
    change = np.abs(before - after).mean(2)
    assert before.shape == after.shape == (512, 512, 3), "pictures of 64 pixels are enlarged on the node"
    mouth, hair = change[336:448, 160:352], change[:128]
    assert mouth.mean() > 0.02 and mouth.mean() > 4 * hair.mean()
    strip = picture(server, pictures["Save Image — Strip"][0])
    assert strip.shape[1] > 400 and strip.std() > 0.1
    assert editor.screenshot("discover_region").stat().st_size > 50_000
    assert not editor.overlaps()
    assert not editor.outside
    assert not [error for error in editor.errors if "hspace" in error.lower()]


def test_training_runs_from_the_button(editor, server):
    editor.open(template="train_asyrp")
    editor.run(timeout=600)
    pictures = editor.pictures()
    titles = ("Render Trajectory", "Render Trajectory — own")
    assert {"Train Asyrp", *titles} <= set(pictures), f"shown: {sorted(pictures)}"
    smile, glasses = (picture(server, pictures[title][0]) for title in titles)
    assert smile.shape == glasses.shape == (512, 512, 3) and np.abs(smile - glasses).mean() > 0.01
    assert not editor.overlaps()
    assert not [error for error in editor.errors if "hspace" in error.lower()]


def test_help_opens_in_the_editor(editor):
    text = editor.help_of("HSpaceDiscoverRegion")
    assert "mask" in text and "generalized" in text
    assert editor.screenshot("help", fit=False).stat().st_size > 10_000
