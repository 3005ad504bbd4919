"""The command ``hspace``, in a checkout ``python -m core.cli``: training, conversion and a look at model files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from ..stage import import_part

COMMANDS = {
    "train": "train an edit of a pixel diffusion model: Asyrp, DiffusionCLIP or a rectifier",
    "train-diffae": "train a diffusion autoencoder on a folder of pictures",
    "convert-diffae": "convert a released diffusion autoencoder to one small file",
    "check": "say what a model file is",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command named by the first argument; its module is imported only then, so that help is fast."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = _parser().parse_args(words[:1]).command
    try:
        module = import_part(f".cli.{command.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise SystemExit(str(error)) from error
    module.main(words[1:])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hspace", description="Semantic image editing inside diffusion models.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _version() -> str:
    try:
        return metadata.version("hspace")
    except metadata.PackageNotFoundError:
        return "a checkout, not installed"
