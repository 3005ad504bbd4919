"""Train the embedded unconditional face model on the renderer's stream.

``python -m scripts.train_face_model --images 500000 --out weights/face_model.safetensors``. The stream is a function of
the seed and the step alone, so ``--resume`` continues exactly where a run stopped. v-prediction (Salimans and Ho 2022,
arXiv 2202.00512); noise levels drawn in log sigma as in Karras et al. 2022 (arXiv 2206.00364).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from core.faces.factors import sample
from core.faces.render import render
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.own_file import write_own
from core.schedule import Schedule
from core.train.noised import noised
from core.train.run import Run, rate
from core.train.session import begin_run, options
from core.weights_folder import weights_folder

SIZE = 64
CONFIG = DDPMConfig(in_channels=3, out_channels=3, channels=(96, 160), blocks=1, attention=(False, True), patch=4)
SCHEDULE = Schedule("linear")
CLEAN_SKIPS = 0.8
"""Share of samples whose skip connections stay whole; the others lose the coarse ones or all, so that h must carry
them."""


def noisy_batch(
    schedule: Schedule, n: int, size: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one batch of the stream: clean images in [-1, 1] `[b c h w]`, noise, and steps `[b]`."""
    x = render(sample(n, generator), size, device=device)[0] * 2 - 1
    t = random_steps(schedule, n, generator)
    on_device = torch.Generator(device).manual_seed(generator.initial_seed())
    noise = torch.randn(x.shape, generator=on_device, device=device)
    return x, noise, t.to(device)


def random_steps(schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
    """Draw steps `[n]`: log-normal in sigma, 15 % of them anywhere."""
    log_sigma = torch.erfinv(torch.rand(n, generator=generator) * 1.998 - 0.999) * 2**0.5 * 1.3 - 0.5
    t = schedule.t(log_sigma.exp()).round().long()
    return torch.where(
        torch.rand(n, generator=generator) < 0.15, torch.randint(0, schedule.steps, (n,), generator=generator), t
    )


def skip_factors(sigma: Tensor, skips: int, coarse: int, generator: torch.Generator) -> Tensor:
    """Draw factors `[b skips]` for the skip connections.

    10 % of the noisy samples lose the ``coarse`` last, 10 % lose all.
    """
    u = torch.rand(len(sigma), generator=generator).to(sigma.device)
    noisy = sigma > 0.3
    keep = torch.ones(len(sigma), skips, device=sigma.device)
    keep[noisy & (u > CLEAN_SKIPS), skips - coarse :] = 0
    keep[noisy & (u > (1 + CLEAN_SKIPS) / 2)] = 0
    return keep


def write(path: Path, run: Run, a: argparse.Namespace) -> None:
    """Write the averaged weights, and how they were trained."""
    facts = {
        "format": "hspace_face_model",
        "version": 1,
        "prediction": "v",
        "patch": CONFIG.patch,
        "size": SIZE,
        "betas": SCHEDULE.kind,
        "beta_start": SCHEDULE.start,
        "beta_end": SCHEDULE.end,
        "steps": SCHEDULE.steps,
        "images": run.i * a.batch,
        "minutes": round(run.seconds / 60, 1),
        "device": a.device,
    }
    write_own(path, {name: value.half() for name, value in run.average.items()}, facts)


def main() -> None:
    """Train the embedded face model."""
    a = options(__doc__, weights_folder() / "face_model.safetensors", images=500_000, seed=1).parse_args()
    device = torch.device(a.device)
    torch.manual_seed(a.seed)
    net = DDPMUNet(CONFIG).to(device).train()
    run = begin_run(a, net, lambda path, run: write(path, run, a))
    skips = 1 + sum(CONFIG.blocks + (i < len(CONFIG.channels) - 1) for i in range(len(CONFIG.channels)))

    def loss(generator: torch.Generator) -> Tensor:
        x, noise, t = noisy_batch(SCHEDULE, a.batch, SIZE, generator, device)
        keep = skip_factors(SCHEDULE.sigma(t).float(), skips, CONFIG.blocks + 1, torch.Generator().manual_seed(run.i))
        seen, target = noised(SCHEDULE, x, noise, t)
        with torch.autocast(device.type, torch.bfloat16):
            out = net(seen, t, keep)
        return F.mse_loss(out.float(), target)

    run.train(loss, a.seed, partial(rate, warm_up=200))
    print(f"{run.i * a.batch} images in {run.seconds / 60:.0f} minutes on {device}", flush=True)


if __name__ == "__main__":
    main()
