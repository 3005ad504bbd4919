"""Say what a model file is: ``hspace check FILE``, with ``--json`` for programs; ``--depth`` measures it as well."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..api import _RBE_SIGMA, _RBE_SIZE, EMBEDDED, Model, _denoiser, _read_picture, load
from ..discover.check_lines import report_of
from ..discover.look import FULL, QUICK, Parts, look_at
from ..files.diffae import Autoencoder
from ..measure.check_report import CheckReport
from ..measure.fitness import ModelTraits
from ..measure.known_worlds import KNOWN_WORLDS
from ..networks.diffae import DiffAENet
from ..networks.guided import GuidedUNet
from ..networks.vp import VPDenoiser
from ..schedule import rescale_sigma


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or one line of JSON."""
    parser = argparse.ArgumentParser(prog="hspace check", description="Say what a model file is.")
    parser.add_argument("model", help=f"a file, or an embedded model: {', '.join(EMBEDDED)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--depth", choices=(QUICK, FULL), help="measure the model too, in few calls or thoroughly")
    parser.add_argument("--image", type=Path, help="with --depth: a picture to measure it with (else it draws one)")
    parser.add_argument("--card", type=Path, help="with --depth: write the report as a PNG too")
    options = parser.parse_args(arguments)
    if options.depth is None and (options.image or options.card):
        parser.error("--image and --card belong to --depth; add --depth quick")
    if options.depth and options.json:
        parser.error("--json prints what the file is, --depth a report in Markdown; give one of the two")
    if options.depth:
        _measure(options)
        return
    try:
        facts = {"model": Path(options.model).name, **describe_model(load(options.model))}
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    if options.json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<18}{_readable(value)}")


def describe_model(model: Model) -> dict[str, Any]:
    """Describe kind, size, layers, steps and weights of a model in values that JSON has."""
    side, known = model.trained_at or (None, False)
    schedule = model.schedule
    return {
        "kind": _kind(model),
        "size": side,
        "size_known": known,
        "layers": list(model.net.layers),
        "steps": schedule.steps,
        "betas": schedule.kind,
        "prediction": model.prediction,
        "weights": sum(value.numel() for value in model.net.parameters()),
        "fingerprint": model.fingerprint,
        **(_code_facts(model) if isinstance(model, Autoencoder) else {}),
    }


def _measure(options: argparse.Namespace) -> None:
    """Print the report on a model."""
    try:
        report = check_model(load(options.model), options.image, options.depth)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    if options.card:
        from PIL import Image

        pixels = (report.card()[0] * 255).round().byte().numpy()
        Image.fromarray(pixels).save(options.card, "PNG")
    print(report.markdown())


def check_model(model: Model, image: Path | None = None, depth: str = QUICK) -> CheckReport:
    """Measure a model of the package.

    Args:
        model: a denoiser or an autoencoder; an autoencoder needs an image.
        image: of a picture, whose middle square is scaled to the model's size.
        depth: ``quick`` or ``full``.

    Raises:
        ValueError: the picture cannot be read, or an autoencoder has none.
    """
    if image is None and isinstance(model, Autoencoder):
        raise ValueError("this model draws from the semantic code of a picture; give it one with --image FILE")
    x0 = None if image is None else _read_picture(model, image)
    parts = _parts_of(model)
    denoiser = _denoiser(model, x0) if x0 is not None else model
    if not isinstance(denoiser, VPDenoiser):
        raise ValueError("this model cannot be asked without a picture")
    looks = look_at(denoiser, parts, x0, depth, reference=KNOWN_WORLDS.get(model.fingerprint))
    sigma = rescale_sigma(_RBE_SIGMA, _RBE_SIZE, parts.shape[-1])
    return report_of(parts, looks, sigma, _versions())


def _parts_of(model: Model) -> Parts:
    side, known = model.trained_at or (None, False)
    levels = model.schedule.sigmas
    coded = isinstance(model, Autoencoder)
    network = type(model.net).__name__
    return Parts(
        family=f"{_kind(model)} ({network})",
        prediction="noise" if model.prediction == "eps" else "v",
        levels=(float(levels[0]), float(levels[-1])),
        side=side if known else None,
        layers=tuple(model.net.layers),
        others=[],
        cache="",
        traits=ModelTraits(network, coded=coded, promptless=True),
        fingerprint=model.fingerprint,
        megabytes=4 * sum(value.numel() for value in model.net.parameters()) / 1e6,
        dtype="float32",
        device="cpu",
        shape=(3, side or _RBE_SIZE, side or _RBE_SIZE),
    )


def _versions() -> list[tuple[str, str]]:
    from . import _version

    python = platform.python_version()
    system = f"{platform.system()} {platform.machine()}"
    return [("hspace", _version()), ("torch", torch.__version__), ("Python", python), ("system", system)]


def _kind(model: VPDenoiser | Autoencoder) -> str:
    net = model.net
    if isinstance(net, DiffAENet):
        return "diffusion autoencoder, one code a level (HDAE)" if net.config.levels else "diffusion autoencoder"
    return "pixel diffusion, guided diffusion" if isinstance(net, GuidedUNet) else "pixel diffusion, DDPM"


def _code_facts(model: Autoencoder) -> dict[str, Any]:
    return {
        "code": list(model.space.shape),
        "code_statistics": model.space.mean is not None,
        "latent_network": model.latent is not None,
    }


def _readable(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


if __name__ == "__main__":
    main()
