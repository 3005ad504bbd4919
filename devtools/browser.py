"""Finds a Chromium for the tests of the graph editor, or installs one."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from . import env
from .console import HOST, StepFailed, ask, read_stamp, run, say, write_stamp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge")
PACKAGES = ("chromium", "fonts-dejavu-core")
STAMP = HOST / "chromium.json"
REMEDY = "Install Chromium or Chrome by hand, or set HSPACE_CHROMIUM to the path of one that is installed."

_PLAYWRIGHT = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"


def ensure_chromium() -> Path:
    """The executable of a Chromium that starts; installs one when there is none.

    Order: ``HSPACE_CHROMIUM``, the one found last time, the system's, Playwright's, then installation (Debian's package
    when this runs as root on Debian or Ubuntu, else Playwright's download).

    Raises:
        StepFailed: none could be found or installed.
    """
    asked = os.environ.get("HSPACE_CHROMIUM")
    if asked:
        if not _starts(asked):
            raise StepFailed(
                "chromium",
                f"HSPACE_CHROMIUM={asked} does not start",
                "Set it to the executable of a Chromium or Chrome.",
            )
        return Path(asked)
    known = read_stamp(STAMP).get("path")
    if known and Path(known).exists():
        return Path(known)
    found = _find()
    if found is None:
        _install()
        found = _find()
    if found is None:
        raise StepFailed("chromium", "the installation succeeded but no Chromium starts", REMEDY)
    write_stamp(STAMP, {"path": str(found)})
    return found


def _find() -> Path | None:
    candidates = [path for name in NAMES if (path := shutil.which(name))]
    if sys.platform == "darwin":
        apps = ("Google Chrome", "Chromium", "Microsoft Edge")
        candidates += [f"/Applications/{app}.app/Contents/MacOS/{app}" for app in apps]
    if os.name == "nt":
        roots = [os.environ.get(name, "") for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")]
        tails = (
            "Google/Chrome/Application/chrome.exe",
            "Chromium/Application/chrome.exe",
            "Microsoft/Edge/Application/msedge.exe",
        )
        candidates += [str(Path(root) / end) for root in roots if root for end in tails]
    own = ask([env.python(), "-c", _PLAYWRIGHT])
    candidates += [own] if own else []
    return next((Path(path) for path in candidates if _starts(path)), None)


def _starts(path: str) -> bool:
    if not Path(path).is_file():
        return False
    # Chrome on Windows opens a window instead of answering.
    return os.name == "nt" or ask([path, "--version"], timeout=60) is not None


def _install() -> None:
    apt = shutil.which("apt-get")
    if apt and hasattr(os, "geteuid") and os.geteuid() == 0:
        say("chromium", "no Chromium found: installing the system's package")
        settings = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            run("chromium", [apt, "-o", "DPkg::Lock::Timeout=300", "update"], remedy=REMEDY, env=settings)
            run(
                "chromium",
                [apt, "install", "-y", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends", *PACKAGES],
                remedy=REMEDY,
                env=settings,
            )
            return
        except StepFailed as failure:  # Ubuntu has no such package
            say("chromium", f"the system's package manager could not install it ({failure.cause.splitlines()[0]})")
    say("chromium", "no Chromium found: downloading Playwright's")
    run("chromium", [env.python(), "-m", "playwright", "install", "chromium"], remedy=REMEDY)
