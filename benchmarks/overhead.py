"""What the nodes take beside the network: samplers, renders and injections against a bare loop of the same calls.
``python dev.py bench overhead``.

The bare loop asks the network the recorded calls again, with the same rows and no patches; a second half of the network
that an edit of h runs (Asyrp) counts as a call of that half. Both are timed by turns in one run, on one thread and in
the time of this process, so that a busy machine hardly matters; of each the shortest is taken.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._faces import held_out
from benchmarks._host import sd15_model
from benchmarks._report import bar, write
from core.directions import Directions
from core.payload import directions_to_payload
from devtools.executor import Executor

SOURCE, TARGET = "a smiling person with red hair", "a smiling person with blond hair"
REPEATS = {"embedded": 15, "SD 1.5 width": 3}
STEPS = {"embedded": 20, "SD 1.5 width": 4}


@dataclass
class World:
    """A model with all that the nodes need beside it.

    Attributes:
        half: what the second half of a call takes, of the whole.
        pair: conditioning and tokens of two prompts, where there is a text encoder.
    """

    call: Callable[..., tuple]
    model: Any
    source: Any
    target: Any
    latent: dict
    sigmas: Tensor
    trajectory: Any = None
    noises: Any = None
    directions: Any = None
    half: float = 0.0
    pair: tuple | None = None


@dataclass
class Recorder:
    """The calls of a network: arguments of the whole ones, and how many further second halves ran."""

    net: Any
    calls: list[tuple[tuple, dict]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def record(self, work: Callable[[], Any]) -> None:
        """Run ``work`` once and note its calls."""
        hooks = [
            self.net.register_forward_pre_hook(self._note, with_kwargs=True),
            _last(self.net).register_forward_pre_hook(lambda _, given: self.ends.append(len(given[0]))),
        ]
        try:
            work()
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, _: Any, args: tuple, kwargs: dict) -> None:
        self.calls.append((args, {**kwargs, "transformer_options": {}}))

    @property
    def second_halves(self) -> int:
        """Ends of the network that no whole call accounts for."""
        return len(self.ends) - len(self.calls)

    def replay(self) -> None:
        """Ask the network the same whole calls."""
        for args, kwargs in self.calls:
            self.net(*args, **kwargs)


def _last(net: Any) -> Any:
    """The module that every run of the second half ends in."""
    inner = getattr(net, "net", net)
    return inner.conv_out if hasattr(inner, "conv_out") else inner.out[-1]


def shortest(*works: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each, the shortest of some runs by turns."""
    times = [float("inf")] * len(works)
    for _ in range(repeats):
        for i, work in enumerate(works):
            start = time.process_time()
            work()
            times[i] = min(times[i], time.process_time() - start)
    return times


def methods(world: World) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    call, model = world.call, world.model
    steered = call("HSpaceSteer", model=model, directions=world.directions, direction=1, strength=2.0,
                   sigma_start=0.0, sigma_end=0.1, normalise="none")[0]  # fmt: skip
    (euler,) = call("KSamplerSelect", sampler_name="euler")
    resume, levels = call("HSpaceResumeTrajectory", trajectory=world.trajectory, asymmetric=False, eta=0.0)
    friendly, kept = call("HSpaceSampleEditFriendly", trajectory=world.noises, skip=0)
    injected = call("HSpaceInjectFeatures", model=model, trajectory=world.trajectory, preset="MasaCtrl",
                    tau_f=-1.0, tau_A=-1.0)[0]  # fmt: skip

    def sample(of: Any, sampler: Any, sigmas: Tensor, latent: dict, positive: Any) -> Callable[[], Any]:
        return lambda: call("SamplerCustom", model=of, add_noise=False, noise_seed=0, cfg=1.0, positive=positive,
                            negative=positive, sampler=sampler, sigmas=sigmas, latent_image=latent)  # fmt: skip

    render = {"trajectory": world.trajectory, "asymmetric": False, "eta": 0.0}
    found = {
        "stock sampler, plain MODEL": sample(model, euler, world.sigmas, world.latent, world.source),
        "stock sampler, steered MODEL": sample(steered, euler, world.sigmas, world.latent, world.source),
        "Resume Trajectory": sample(model, resume, levels, world.latent, world.target),
        "Render Trajectory, steered": lambda: call("HSpaceRenderTrajectory", model=steered, **render),
        "Inject Features (MasaCtrl)": sample(injected, resume, levels, world.latent, world.target),
        "Sample Edit-Friendly": sample(model, friendly, kept, world.latent, world.target),
    }
    if world.pair:
        positive, tokens = world.pair
        edited = call("HSpacePromptToPrompt", model=model, tokens=tokens, mode="auto", cross_end=0.8, self_end=0.5,
                      reweights="", windows="", self_resolution="half")[0]  # fmt: skip
        (rows,) = call("HSpacePairLatent", latent=world.latent, rows=2)
        found["Prompt-to-Prompt"] = sample(edited, euler, world.sigmas, rows, positive)
    return found


def embedded(host: Executor) -> World:
    """The face model with prompts, and a picture of it."""
    model, clip, vae = host.call("HSpaceLoadFaceTextModel")[:3]
    source, target = (host.call("CLIPTextEncode", clip=clip, text=text)[0] for text in (SOURCE, TARGET))
    image = held_out(1)[1].movedim(1, -1) / 2 + 0.5
    world = _inverted(host, model, vae, image, (source, target), STEPS["embedded"])
    world.pair = host.call("HSpacePairConditioning", clip=clip, source=SOURCE, targets=TARGET)[:2]
    return world


def wide(host: Executor) -> World:
    """Stable Diffusion 1.5's width with random weights, on a latent of 16 x 16."""
    model, prompt = sd15_model(torch.device("cpu"), torch.Generator().manual_seed(0))
    (vae,) = host.call("HSpaceTestVAE", network="tiny")
    (image,) = host.call("HSpaceTestPicture", case="noise", width=128, height=128)
    return _inverted(host, model, vae, image, (prompt, prompt), STEPS["SD 1.5 width"])


def _inverted(host: Executor, model: Any, vae: Any, image: Tensor, prompts: tuple[Any, Any], steps: int) -> World:
    (sigmas,) = host.call("BasicScheduler", model=model, scheduler="karras", steps=steps, denoise=1.0)
    given = {"model": model, "image": image, "vae": vae, "sigmas": sigmas, "positive": prompts[0]}
    trajectory, latent = host.call("HSpaceInvertImage", method="fixed point", iterations=0, **given)[:2]
    noises = host.call("HSpaceEditFriendlyInversion", solver="ddpm", cfg=1.0, seed=0, **given)[0]
    run = host.module("nodes.host.model.run")
    x, sigma = trajectory["states"][0], trajectory["sigmas"][:1].float()

    def look(net: Any) -> tuple[torch.Size, float]:
        part = net.split(x, sigma)
        whole, half = shortest(lambda: net(x, sigma), lambda: part.decode(part.h), repeats=5)
        return part.h.shape, half / whole

    shape, half = run.with_denoiser(model, x.shape, run.Prompts(prompts[0]), look)
    direction = _direction(shape, trajectory["fingerprint"])
    return World(host.call, model, *prompts, latent, sigmas, trajectory, noises, direction, half)


def _direction(shape: torch.Size, fingerprint: str) -> dict:
    """One direction of the bottleneck, at random: what it does to the picture does not matter here."""
    vector = torch.randn(1, 1, *shape[1:], generator=torch.Generator().manual_seed(0))
    one, level = torch.ones(1, 1), torch.tensor([1.0], dtype=torch.float64)
    return directions_to_payload(Directions(vector / vector.norm(), level, one, one, "middle", fingerprint))


def measured(name: str, world: World) -> list[dict]:
    """Rows of one network."""
    net, rows = world.model.model.diffusion_model, []
    for method, work in methods(world).items():
        recorder = Recorder(net)
        recorder.record(work)
        whole, bare = shortest(work, recorder.replay, repeats=REPEATS[name])
        bare *= 1 + recorder.second_halves * world.half / len(recorder.calls)
        rows.append(
            {
                "network": name,
                "method": method,
                "calls": len(recorder.calls),
                "second halves": recorder.second_halves,
                "seconds": round(whole, 4),
                "bare loop": round(bare, 4),
                "ratio": round(whole / bare, 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run, measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", choices=list(REPEATS))
    only = parser.parse_args().only
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        host = Executor(Path(folder))
        made = {"embedded": embedded, "SD 1.5 width": wide}
        rows = [row for name, make in made.items() if only in (None, name) for row in measured(name, make(host))]
    bars = [bar(f"{row['network']}, {row['method']}: over the bare loop", row["ratio"], "<=", 1.05) for row in rows]
    bars.append(bar("networks that were measured", len({row["network"] for row in rows}), "==", len(made)))
    write("overhead", {"rows": rows}, bars)


if __name__ == "__main__":
    main()
