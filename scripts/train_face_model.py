"""Train the embedded unconditional face model on the renderer's stream.

``python -m core.faces.train_model --images 500000 --out weights/face_model.safetensors``. The stream is a function of the
seed and the step alone, so ``--resume`` continues exactly where a run stopped. v-prediction (Salimans and Ho 2022,
arXiv 2202.00512); noise levels drawn in log sigma as in Karras et al. 2022 (arXiv 2206.00364).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.ddpm import DDPMConfig, DDPMUNet
from ..own_file import write_own
from ..schedule import Schedule
from ..train.long_run import LongRun, options, rate
from ..train.noised import noised
from .factors import sample
from .render import render

CONFIG = DDPMConfig(in_channels=3, out_channels=3, channels=(96, 160), blocks=1, attention=(False, True), patch=4)
SCHEDULE = Schedule("linear")
CLEAN_SKIPS = 0.8
"""Share of samples whose skip connections stay whole; the others lose the coarse ones or all, so that h must carry them."""


def noisy_batch(schedule: Schedule, n: int, size: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """One batch of the stream: clean images in [-1, 1] `[b c h w]`, noise, and steps `[b]`."""
    g = torch.Generator().manual_seed(seed)
    x = render(sample(n, g), size, device=device)[0] * 2 - 1
    t = random_steps(schedule, n, g)
    noise = torch.randn(x.shape, generator=torch.Generator(device).manual_seed(seed), device=device)
    return x, noise, t.to(device)


def random_steps(schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
    """Steps `[n]`: log-normal in sigma, 15 % of them anywhere."""
    log_sigma = torch.erfinv(torch.rand(n, generator=generator) * 1.998 - 0.999) * 2**0.5 * 1.3 - 0.5
    t = schedule.t(log_sigma.exp()).round().long()
    return torch.where(torch.rand(n, generator=generator) < 0.15, torch.randint(0, schedule.steps, (n,), generator=generator), t)


def skip_factors(sigma: Tensor, skips: int, coarse: int, generator: torch.Generator) -> Tensor:
    """Factors `[b skips]` for the skip connections: 10 % of the noisy samples lose the ``coarse`` last, 10 % lose all."""
    u = torch.rand(len(sigma), generator=generator).to(sigma.device)
    noisy = sigma > 0.3
    keep = torch.ones(len(sigma), skips, device=sigma.device)
    keep[noisy & (u > CLEAN_SKIPS), skips - coarse :] = 0
    keep[noisy & (u > (1 + CLEAN_SKIPS) / 2)] = 0
    return keep


def main() -> None:
    """Command line entry."""
    a = options(__doc__, Path("weights/face_model.safetensors"), images=500_000, seed=1).parse_args()
    device = torch.device(a.device)
    torch.manual_seed(a.seed)
    net = DDPMUNet(CONFIG).to(device).train()
    run = LongRun(dict(net.named_parameters()), a.ema)
    if a.resume and a.state.exists():
        run.resume(a.state)
    total, size = a.images // a.batch, 64
    skips = 1 + sum(CONFIG.blocks + (i < len(CONFIG.channels) - 1) for i in range(len(CONFIG.channels)))
    while run.step < total:
        x, noise, t = noisy_batch(SCHEDULE, a.batch, size, a.seed * 1_000_003 + run.step, device)
        keep = skip_factors(SCHEDULE.sigma(t).float(), skips, CONFIG.blocks + 1, torch.Generator().manual_seed(run.step))
        seen, target = noised(SCHEDULE, x, noise, t)
        with torch.autocast(device.type, torch.bfloat16):
            out = net(seen, t, keep)
        run.learn(F.mse_loss(out.float(), target), a.lr * rate(run.step, total, 200))
        run.tell(total, a.batch)
        if run.due(a.minutes_between_saves, total):
            info = {
                "format": "hspace_face_model", "version": 1, "prediction": "v", "patch": CONFIG.patch, "size": size,
                "betas": SCHEDULE.kind, "beta_start": SCHEDULE.start, "beta_end": SCHEDULE.end, "steps": SCHEDULE.steps,
                "images": run.step * a.batch, "minutes": round(run.seconds / 60, 1), "device": a.device,
            }  # fmt: skip
            a.out.parent.mkdir(parents=True, exist_ok=True)
            write_own(a.out, {k: v.half() for k, v in run.ema.items()}, info)
            run.save(a.state)
    print(f"{run.step * a.batch} images in {run.seconds / 60:.0f} minutes on {device}", flush=True)


if __name__ == "__main__":
    main()
