"""What people read: every link and picture is there, the front page stays short, every node has its place in the documentation."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOB = "https://github.com/comfyui-hspace/comfyui-hspace/blob/main/"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("web/docs/*.md")])
HELP = sorted(ROOT.glob("web/docs/*.md"))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)|<(?:a|img)\s[^>]*?(?:href|src)=\"([^\"]+)\"")
EDITED = re.compile(r"^!\[.+\]\(pictures/[\w.]+\)$", re.MULTILINE)
# Nodes that read, write or count and neither make nor edit a picture.
WITHOUT_PICTURE = set(
    """
    AsyrpLevels ClipEmbedder CombineDirections DiffAESteps EditMetrics LoadAsyrp LoadDiffAE LoadDiffusionCLIP
    LoadFaceEmbedder LoadPixelModel MeanDifference SaveDirections SaveTrained SelectDirections
    """.split()
)


def prose(page: Path) -> str:
    """The text of a page without its code, in which brackets are no links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", text)


def links(page: Path) -> list[str]:
    return [match[1] or match[2] for match in LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    names: set[str] = set()
    for heading in re.findall(
        r"^#{1,6} +(.+?) *$", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M), re.M
    ):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        names.add(next(name for name in (plain, *(f"{plain}-{n}" for n in range(1, 99))) if name not in names))
    return names | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in links(page):
        own = link.startswith(BLOB)
        if re.match(r"[a-z]+:", link) and not own:
            continue
        path, _, anchor = unquote(link.removeprefix(BLOB)).partition("#")
        target = ((ROOT if own else page.parent) / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), f"{link}: there is no {path}"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_the_front_page_is_read_in_two_minutes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500


def test_the_index_lists_every_page():
    listed = set(links(ROOT / "docs" / "README.md"))
    assert {page.name for page in ROOT.glob("docs/*.md")} - {"README.md"} <= listed


@pytest.mark.parametrize("page", HELP, ids=lambda page: page.stem)
def test_a_node_and_its_page_of_the_documentation_name_each_other(page):
    pages = [link.removeprefix(BLOB) for link in links(page) if link.startswith(f"{BLOB}docs/")]
    assert any(f"../web/docs/{page.name}" in links(ROOT / to) for to in pages)


@pytest.mark.parametrize("page", HELP, ids=lambda page: page.stem)
def test_help_shows_what_a_node_makes(page):
    assert bool(EDITED.search(page.read_text(encoding="utf-8"))) == (
        page.stem.removeprefix("HSpace") not in WITHOUT_PICTURE
    )


def test_pictures_stay_small_and_each_is_used():
    pictures, screens = (sorted((ROOT / folder / "pictures").iterdir()) for folder in ("web/docs", "docs"))
    used = {(page.parent / link).resolve() for page in PAGES for link in links(page) if "pictures/" in link}
    assert {*pictures, *screens} == used
    for picture in pictures:
        assert picture.stat().st_size < (200_000 if picture.stem == "editor" else 40_000), picture.name
    assert sum(picture.stat().st_size for picture in pictures) < 2_000_000
    assert all(screen.stat().st_size <= 150_000 for screen in screens) and len(screens) <= 6


def test_every_workflow_is_on_a_page():
    linked = {Path(link).name for page in ROOT.glob("docs/*.md") for link in links(page) if "/workflows/" in link}
    alone = {path.name for path in ROOT.glob("workflows/*.json")} - linked
    assert not alone, f"add to the page of its stage in docs/: {', '.join(sorted(alone))}"
