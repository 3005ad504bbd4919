"""What the registry would publish: what runs and no more, small, and content with the registry's own validator."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from comfy_cli.file_utils import zip_files
from comfy_cli.registry import extract_node_configuration
from PIL import Image

from devtools.host import PARTS, ROOT

BESIDE = {"README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"}
MEGABYTE = 2**20
RAW = "https://raw.githubusercontent.com/"
IMPORT_CORE = """
import importlib, pkgutil, core
for module in pkgutil.walk_packages(core.__path__, "core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """The archive, unpacked, made as the registry's client makes it."""
    folder = tmp_path_factory.mktemp("archive")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        zip_files(folder / "node.zip")
    with zipfile.ZipFile(folder / "node.zip") as file:
        file.extractall(folder / "ComfyUI-HSpace")
    return folder / "ComfyUI-HSpace"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_it_holds_what_runs_and_nothing_else(archive):
    top = {path.name for path in archive.iterdir()}
    assert top - BESIDE == {name for name in PARTS if (ROOT / name).exists()}
    assert top & BESIDE == BESIDE
    kinds = {path.suffix for path in _files(archive)}
    assert kinds <= {
        ".py",
        ".md",
        ".toml",
        ".txt",
        ".json",
        ".jpg",
        ".png",
        ".svg",
        ".webp",
        ".js",
        ".css",
        ".safetensors",
        "",
    }, kinds
    developers = [
        path
        for path in _files(archive)
        if {"tests", "devtools", "scripts", "__pycache__"} & set(path.parts[len(archive.parts) :])
    ]
    assert not developers


def test_it_is_small_but_for_the_weights(archive):
    sizes = {path.relative_to(archive): path.stat().st_size for path in _files(archive)}
    assert sum(size for path, size in sizes.items() if path.parts[0] == "weights") < 85 * MEGABYTE
    assert sum(size for path, size in sizes.items() if path.parts[0] != "weights") < 8 * MEGABYTE
    assert (archive.parent / "node.zip").stat().st_size < 85 * MEGABYTE


def test_all_of_core_loads_without_what_was_left_out(archive):
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(archive)!r})\n{IMPORT_CORE}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=archive.parent, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_the_registry_s_validator_is_content(archive, tmp_path):
    environment = os.environ | {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "APPDATA": str(tmp_path),
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", "node", "validate"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=archive,
        env=environment,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "All validation checks passed" in said and "arning" not in said, said


def test_the_registry_s_page_has_its_pictures():
    configuration = extract_node_configuration(str(ROOT / "pyproject.toml"))
    assert configuration is not None
    repository = configuration.project.urls.repository.replace("https://github.com/", RAW)
    icon, banner = (
        _picture(url, repository) for url in (configuration.tool_comfy.icon, configuration.tool_comfy.banner_url)
    )
    assert icon.width == icon.height <= 400
    assert banner.width * 9 == banner.height * 21
    assert (
        configuration.project.supported_os
        and configuration.project.supported_comfyui_version
        and configuration.project.version
    )


def _picture(url: str, repository: str) -> Image.Image:
    """The file of this repository that an address will show."""
    start = f"{repository}/main/"
    assert url.startswith(start), url
    path = ROOT / url.removeprefix(start)
    assert path.stat().st_size < MEGABYTE
    return Image.open(path)
