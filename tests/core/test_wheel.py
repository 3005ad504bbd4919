"""The package as people install it: built, put into a fresh environment, and used from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "core", "weights")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
STARTS_LIGHT = "import sys, hspace; heavy = {'torch', 'numpy', 'scipy'} & set(sys.modules); assert not heavy, heavy"
# Whichever is imported first, a stage's package stays one and can be called.
CALLED = """
import hspace.discover.find as find, hspace.measure.image
from hspace import invert
assert callable(find.discover) and callable(hspace.discover) and callable(hspace.measure) and callable(invert)
assert hspace.discover.find is find and hspace.load is hspace.api.load
"""
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import hspace
try:
    hspace.load()
except ModuleNotFoundError as error:
    assert "pytorch.org" in str(error), error
else:
    raise AssertionError("it was loaded")
"""


def run(command: list, folder: Path) -> str:
    """What a command prints in a folder, in which it finds nothing of this checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, because a build leaves folders where it runs."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    for name in ("nodes", "devtools", "tests", "docs"):  # what setuptools must not take
        (source / name).mkdir()
        (source / name / "__init__.py").touch()
    run([*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", target, source], target)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The scripts of a fresh environment with the wheel, which borrows PyTorch and the other requirements from here."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    places = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", places))
    scripts = Path(sysconfig.get_path("scripts", "venv", places))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = ["install", "--no-deps", "--no-index", "--ignore-installed", wheel]
    run([*PIP, "--python", next(scripts.glob("python*")), *install], folder)
    return scripts


@pytest.fixture(scope="module")
def python(environment) -> Path:
    return environment / Path(sys.executable).name


@pytest.fixture
def empty(tmp_path) -> Path:
    """A folder with nothing in it."""
    return tmp_path


def test_it_holds_core_and_the_weights_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {Path(name) for name in file.namelist() if ".dist-info/" not in name}
        (facts,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        requirements = [x for x in file.read(facts).decode().splitlines() if x.startswith("Requires-Dist: ")]
    core = {Path("hspace") / path.relative_to(ROOT / "core") for path in (ROOT / "core").rglob("*.py")}
    weights = {Path("hspace") / path.relative_to(ROOT) for path in (ROOT / "weights").rglob("*.safetensors")}
    assert names == core | weights
    wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert [x.removeprefix("Requires-Dist: ") for x in requirements if "extra ==" not in x] == wanted


def test_the_documented_lines_run_as_printed(python, empty):
    run([python, "-m", "doctest", ROOT / "docs" / "library.md"], empty)


def test_the_command_works_from_any_folder(environment, empty):
    command = shutil.which("hspace", path=str(environment))
    facts = json.loads(run([command, "check", "face_model", "--json"], empty))
    assert facts["kind"] == "pixel diffusion, DDPM" and facts["size"] == 64 and facts["steps"] == 1000
    assert facts["layers"][:2] == ["middle", "up.0"]
    assert "train-diffae" in run([command, "--help"], empty)


@pytest.mark.parametrize("code", [STARTS_LIGHT, CALLED, WITHOUT_TORCH], ids=["light", "called", "without torch"])
def test_it_is_imported(python, empty, code):
    run([python, "-c", code], empty)
