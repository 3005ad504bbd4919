#!/usr/bin/env python3
"""The one entry for people: demo, test, serve, bench, lint. Needs nothing but Python; see ``python dev.py --help``."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - the message is for those who have an older one
    sys.exit(
        "dev.py needs Python 3.10 or newer, this is "
        + sys.version.split()[0]
        + ". Run it with another, for example python3.12 dev.py."
    )

import argparse
import os
import subprocess
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from devtools import bench, browser, demo, env, host, testing
from devtools.console import ROOT, StepFailed, plain_output, say
from devtools.server import Server, stop_on_termination

EPILOG = """\
Everything is made inside this folder: .venv (Python packages), .host (ComfyUI, logs), output (results).
HSPACE_TORCH_ARGS   arguments added to `pip install torch==...`, e.g. the --index-url of the build you want
HSPACE_CHROMIUM     executable of the browser for the tests of the graph editor"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="ComfyUI-HSpace, from a bare machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo.add_arguments(
        commands.add_parser("demo", help="edit a portrait in a real ComfyUI and write the pictures to output/")
    )
    test = commands.add_parser(
        "test",
        help="run every test, of large tables a share (--all: every cell; --changed: the files of tests that a change"
        " touches); further arguments go to pytest",
    )
    test.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    serve = commands.add_parser("serve", help="start ComfyUI with the pack and open the graph editor")
    serve.add_argument(
        "--port", type=int, default=8188, help="preferred port (default: 8188; another is taken if it is busy)"
    )
    serve.add_argument("--no-browser", action="store_true", help="do not open the browser")
    bench.add_arguments(
        commands.add_parser("bench", help="run benchmarks, check their figures, write them into docs/benchmarks.md")
    )
    commands.add_parser("lint", help="ruff and pyright")
    workflow = commands.add_parser(
        "workflow",
        help="add a graph or a blueprint that the editor saved, lay graphs out, or check those that are there",
        add_help=False,
    )
    workflow.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="add FILE.json | blueprint FILE.json | layout | check"
    )
    return parser


def _serve(options: argparse.Namespace) -> int:
    host.ensure_host()
    say("serve", "starting ComfyUI")
    with Server("serve", port=options.port) as server:
        server.check_pack()
        for picture in sorted(demo.ASSETS.glob("portrait*.png")):
            target = server.input / picture.name
            if not target.exists():
                target.write_bytes(picture.read_bytes())
        template = f"{server.url}/?template=01_start_here&source={host.LINK.name}"
        say(
            "serve",
            f"the graph editor is at {server.url} (log: {server.log}); models go to {server.models}; Ctrl-C stops it",
        )
        if not options.no_browser:
            webbrowser.open(template)
        server.wait()
        server.check()
    return 0


def _workflow(arguments: Sequence[str]) -> int:
    testing.prepare()
    environment = os.environ | {"HSPACE_CHROMIUM": str(browser.ensure_chromium())}
    whole = [str(Path(part).resolve()) if Path(part).is_file() else part for part in arguments]  # it runs from the root
    command = [str(env.python()), "-m", "devtools.workflows", *whole]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode  # noqa: S603 - our own module


def main() -> int:
    """Run one command; its exit status."""
    plain_output()
    # Anything after `test` belongs to pytest, and after `workflow` to its own parser, options included.
    options, rest = _parser().parse_known_args()
    if rest and options.command not in ("test", "workflow"):
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    stop_on_termination()
    try:
        if options.command == "demo":
            demo.run(options)
            return 0
        if options.command == "test":
            return testing.run([*rest, *options.arguments])
        if options.command == "serve":
            return _serve(options)
        if options.command == "bench":
            return bench.run(options)
        if options.command == "workflow":
            return _workflow([*rest, *options.arguments])
        return testing.lint()
    except StepFailed as failure:
        print(failure.report(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
