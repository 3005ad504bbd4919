"""Every transformer class that the pack can cut: exactness, derivatives, discovery, steering, on tiny random weights.
``python dev.py bench families``.

Each row is a family of the host, its own network class made small and filled with random numbers. Nothing here tells
how good an edit looks on a trained model.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._report import bar, write
from devtools.executor import Executor
from devtools.transformers import CASES, World, derivative_figures, relative, split_figures

SPLIT, ADJOINT = 1e-5, 1e-6
STRENGTH, STEPS = 5.0, 3


def measured(host: Executor, name: str) -> dict[str, Any]:
    """Figures of one case."""
    world = World(host, CASES[name])
    cuts = split_figures(world)
    adjoint, differences = derivative_figures(world)
    edit = edited(world)
    return {
        "family": name,
        "network": type(world.model.model.diffusion_model).__name__,
        "frames": world.framed,
        "split error": max(one.split for one in cuts),
        "row of a batch": max(one.rows for one in cuts),
        "tokens in place": min(one.in_place for one in cuts),
        "adjoint gap": adjoint,
        "forward mode against differences": differences,
        "inside over outside": edit["quotient"],
        "strength 0 bit for bit": edit["idle"],
        "sampler against render": edit["sampled"],
    }


def edited(world: World) -> dict[str, Any]:
    """Discover, steer and render: what the region gains, and whether a stock sampler shows the same edit."""
    call, module = world.executor.call, world.executor.module
    (sigmas,) = call("BasicScheduler", model=world.model, scheduler="simple", steps=STEPS, denoise=1.0)
    walk = module("core.invert.fixed_point").invert_fixed_point
    found = world.inside(lambda d: walk(d, 0.5 * world.x, sigmas, 2, limit=None), gradients=False)
    prompts = {"positive": world.positive, "negative": [], "cfg": 1.0}
    trajectory = module("core.trajectory").Trajectory(**{**vars(found), "prompts": prompts})
    socket = module("core.payload").trajectory_to_payload(trajectory)
    directions = call("HSpaceDiscoverRegion", model=world.model, trajectory=socket, mask=half_mask(world), sigma=0.6,
                      k=2, mode="generalized", iterations=3)[0]  # fmt: skip

    def steered(strength: float) -> Any:
        return call("HSpaceSteer", model=world.model, directions=directions, strength=strength, direction=1,
                    sigma_start=1000.0, sigma_end=0.0)[0]  # fmt: skip

    def rendered(model: Any) -> Tensor:
        edits = module("nodes.host.patches.steering").edits_of(model)
        steer = module("core.edit.directions.steer").steer_trajectory
        return world.inside(lambda d: steer(d, trajectory, edits), gradients=False)

    plain, moved = sampled(world, socket, world.model), sampled(world, socket, steered(STRENGTH))
    return {
        "quotient": float(directions["gain"][0, 0] / directions["leak"][0, 0]),
        "idle": torch.equal(sampled(world, socket, steered(0.0)), plain),
        "sampled": relative(moved, rendered(steered(STRENGTH))),
    }


def half_mask(world: World) -> Tensor:
    """The left half of the picture, `[1 H W]`."""
    cell = world.model.get_model_object("latent_format").spacial_downscale_ratio
    height, width = (side * cell for side in world.x.shape[-2:])
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1
    return mask


def sampled(world: World, trajectory: dict, model: Any) -> Tensor:
    """The state that the stock sampler ends in along a trajectory."""
    call = world.executor.call
    sampler, sigmas = call("HSpaceResumeTrajectory", trajectory=trajectory, asymmetric=False)
    frames = (1,) if world.framed else ()
    empty = {"samples": torch.zeros(1, world.channels, *frames, *world.x.shape[-2:])}
    guider = call("BasicGuider", model=model, conditioning=world.positive)[0]
    result = call("SamplerCustomAdvanced", noise=call("DisableNoise")[0], guider=guider, sampler=sampler,
                  sigmas=sigmas, latent_image=empty)[0]["samples"]  # fmt: skip
    return world.executor.module("nodes.host.model.latents").latents_in(model, result)


def main() -> None:
    """Measure all, or the cases named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(CASES), help="cases (default: all); writes nothing")
    chosen = parser.parse_args().only
    with tempfile.TemporaryDirectory() as folder:
        host = Executor(Path(folder))
        rows = []
        for name in chosen or CASES:
            rows.append(measured(host, name))
            print(rows[-1], flush=True)
    if chosen:
        return
    bars = [
        bar("worst split error", max(row["split error"] for row in rows), "<=", SPLIT),
        bar("worst row of a batch", max(row["row of a batch"] for row in rows), "<=", SPLIT),
        bar("tokens in place, of all", min(row["tokens in place"] for row in rows), "==", 1.0),
        bar("worst adjoint gap", max(row["adjoint gap"] for row in rows), "<=", ADJOINT),
        bar("strength 0 bit for bit", all(row["strength 0 bit for bit"] for row in rows), "==", True),
        bar("worst sampler against render", max(row["sampler against render"] for row in rows), "<=", SPLIT),
    ]
    write("families", {"rows": rows}, bars)


if __name__ == "__main__":
    main()
