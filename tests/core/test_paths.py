"""File names given by people never leave their folder."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.paths import MAX_NAME, safe_name, safe_output_path

MODEST = settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "\\",
        "a",
        "CON",
        "nul",
        "com1",
        "C:",
        "~",
        " ",
        "\0",
        "\n",
        "é",
        "%2e%2e",
        "\u202e",
        "x" * 40,
        "$HOME",
        "*",
    ]
)
NAMES = st.one_of(st.text(max_size=130), st.lists(PIECES, max_size=6).map("".join))


@MODEST
@given(name=NAMES)
def test_any_name_is_refused_or_becomes_one_file_in_the_folder(tmp_path, name):
    try:
        target = safe_output_path(tmp_path, name, ".safetensors")
    except ValueError:
        return
    assert target.parent == tmp_path.resolve() and target.suffix == ".safetensors"
    assert not set(target.name) & set('/\\:\0<>|"?*') and ".." not in target.parts and target.name.isprintable()
    assert Path(os.path.normpath(tmp_path.resolve() / target.name)) == target
    assert len(target.name.encode()) <= 255 and not target.exists()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/etc/passwd",
        "C:x",
        "C:\\x",
        "\\\\host\\share",
        "a\0b",
        "a\nb",
        "CON",
        "con.txt",
        "NUL",
        "nul .x",
        "COM1",
        "lpt9.tar",
        "COM\u00b9",
        "CONIN$",
        ".hidden",
        "x.",
        "x ",
        " x",
        "a*b",
        "a?b",
        'a"b',
        "a|b",
        "a<b",
        "x" * (MAX_NAME + 1),
        "\u202egpj",
        "a:stream",
        "~/../x",
    ],
)
def test_known_attacks_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="name"):
        safe_output_path(tmp_path, name, ".png")


@pytest.mark.parametrize(
    "name", ["mouth", "my smile 2", "café", "微笑", "a.b", "con_fetti", "-5", "mouth.safetensors", "100%"]
)
def test_ordinary_names_are_taken(tmp_path, name):
    target = safe_output_path(tmp_path, name, ".safetensors")
    assert target.name == (name if name.endswith(".safetensors") else f"{name}.safetensors")


def test_names_are_normalised():
    assert safe_name("cafe\u0301") == "caf\u00e9"
    with pytest.raises(ValueError, match="text"):
        safe_name(7)  # type: ignore[arg-type]


def test_nothing_is_overwritten_unless_asked(tmp_path):
    first = safe_output_path(tmp_path, "mouth", ".png")
    first.write_text("x")
    second = safe_output_path(tmp_path, "mouth", ".png")
    assert second.name == "mouth_2.png"
    second.write_text("x")
    assert safe_output_path(tmp_path, "mouth", ".png").name == "mouth_3.png"
    assert safe_output_path(tmp_path, "mouth", ".png", overwrite=True) == first
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match="link or a folder"):
        safe_output_path(tmp_path, "folder", ".png", overwrite=True)


def test_links_do_not_lead_out(tmp_path):
    inner, outside = tmp_path / "in", tmp_path / "out"
    inner.mkdir()
    outside.mkdir()
    (inner / "mouth.png").symlink_to(
        outside / "stolen.png"
    )  # dangling: exists() is false, writing would create the target
    target = safe_output_path(inner, "mouth", ".png")
    assert target.name == "mouth_2.png"
    with pytest.raises(ValueError, match="link"):
        safe_output_path(inner, "mouth", ".png", overwrite=True)
    (tmp_path / "alias").symlink_to(inner, target_is_directory=True)
    assert (
        safe_output_path(tmp_path / "alias", "eyes", ".png").parent == inner.resolve()
    )  # the folder itself may be a link


def test_folder_and_suffix_are_checked(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        safe_output_path(tmp_path / "none", "x", ".png")
    for suffix in ("png", "./x", ".p/ng", "", ".PNG"):
        with pytest.raises(ValueError, match="suffix"):
            safe_output_path(tmp_path, "x", suffix)
