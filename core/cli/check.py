"""Say what a model file is: kind, layers, size and steps: ``hspace check FILE``, with ``--json`` for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..api import EMBEDDED, Model, load
from ..files.diffae import Autoencoder
from ..networks.diffae import DiffAENet
from ..networks.guided import GuidedUNet
from ..networks.vp import VPDenoiser


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or one line of JSON."""
    parser = argparse.ArgumentParser(prog="hspace check", description="Say what a model file is.")
    parser.add_argument("model", help=f"a file, or an embedded model: {', '.join(EMBEDDED)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
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
