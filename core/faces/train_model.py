"""Train the embedded unconditional face model on the renderer's stream.

``python -m core.faces.train_model --images 500000 --out weights/face_model.safetensors``. The stream is a function of the
seed and the step alone, so ``--resume`` continues exactly where a run stopped. v-prediction (Salimans and Ho 2022,
arXiv 2202.00512); noise levels drawn in log sigma as in Karras et al. 2022 (arXiv 2206.00364).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ..networks.ddpm import DDPMConfig, DDPMUNet
from ..schedule import Schedule
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
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--out", type=Path, default=Path("weights/face_model.safetensors"))
    p.add_argument("--state", type=Path, default=Path("output/face_model_state.safetensors"), help="training state for --resume")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--images", type=int, default=500_000, help="length of the whole schedule")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--ema", type=float, default=0.9995)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--minutes-between-saves", type=float, default=4)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    device = torch.device(a.device)
    torch.manual_seed(a.seed)
    net = DDPMUNet(CONFIG).to(device).train()
    params = dict(net.named_parameters())
    ema = {k: v.detach().clone() for k, v in params.items()}
    optimiser = torch.optim.AdamW(net.parameters(), a.lr, betas=(0.9, 0.99), weight_decay=1e-3, foreach=True)
    step, spent = 0, 0.0
    if a.resume and a.state.exists():
        step, spent = _load(a.state, params, ema, optimiser)
        print(f"resumed at step {step}", flush=True)
    total = a.images // a.batch
    skips = 1 + sum(CONFIG.blocks + (i < len(CONFIG.channels) - 1) for i in range(len(CONFIG.channels)))
    size = 64
    started = saved = time.perf_counter()
    losses: list[float] = []
    while step < total:
        rate = a.lr * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * max(0.0, step / total - 0.4) / 0.6)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        x, noise, t = noisy_batch(SCHEDULE, a.batch, size, a.seed * 1_000_003 + step, device)
        abar = SCHEDULE.abar.to(device)[t].float()[:, None, None, None]
        keep = skip_factors(SCHEDULE.sigma(t).float(), skips, CONFIG.blocks + 1, torch.Generator().manual_seed(step))
        target = abar.sqrt() * noise - (1 - abar).sqrt() * x
        with torch.autocast(device.type, torch.bfloat16):
            out = net(abar.sqrt() * x + (1 - abar).sqrt() * noise, t, keep)
        loss = F.mse_loss(out.float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        decay = min(a.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(ema.values()), [p.detach() for p in params.values()], 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        losses.append(loss.item())
        now = time.perf_counter()
        if step % 100 == 0:
            print(
                f"step {step}/{total}  loss {sum(losses[-100:]) / 100:.4f}  {a.batch * len(losses) / (now - started):.0f} images/s",
                flush=True,
            )
        if now - saved > 60 * a.minutes_between_saves or step == total:
            saved = now
            _save(a, step, spent + now - started, params, ema, optimiser)
    print(f"{step * a.batch} images in {(spent + time.perf_counter() - started) / 60:.0f} minutes on {device}", flush=True)


def _save(a: argparse.Namespace, step: int, seconds: float, params: dict, ema: dict, optimiser: torch.optim.Optimizer) -> None:
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.state.parent.mkdir(parents=True, exist_ok=True)
    info = {
        "format": "hspace_face_model", "version": 1, "prediction": "v", "patch": CONFIG.patch, "size": 64,
        "betas": SCHEDULE.kind, "beta_start": SCHEDULE.start, "beta_end": SCHEDULE.end, "steps": SCHEDULE.steps,
        "images": step * a.batch, "minutes": round(seconds / 60, 1), "device": a.device,
    }  # fmt: skip
    weights = {k: v.half().cpu().contiguous() for k, v in ema.items()}
    _replace(weights, a.out, {"hspace": json.dumps(info)})
    state = {f"net.{k}": v.detach() for k, v in params.items()} | {f"ema.{k}": v for k, v in ema.items()}
    for (name, _), slot in zip(params.items(), optimiser.state_dict()["state"].values(), strict=True):
        state |= {f"m.{name}": slot["exp_avg"], f"v.{name}": slot["exp_avg_sq"]}
    _replace({k: v.cpu().contiguous() for k, v in state.items()}, a.state, {"step": str(step), "seconds": f"{seconds:.1f}"})


def _replace(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata=metadata)
    part.replace(path)


def _load(path: Path, params: dict, ema: dict, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    state = load_file(path)
    with safe_open(path, "pt") as f:
        meta = f.metadata()
    step = int(meta["step"])
    with torch.no_grad():
        for k, p in params.items():
            p.copy_(state[f"net.{k}"])
            ema[k].copy_(state[f"ema.{k}"])
            optimiser.state[p] = {
                "step": torch.tensor(float(step)),
                "exp_avg": state[f"m.{k}"].to(p.device),
                "exp_avg_sq": state[f"v.{k}"].to(p.device),
            }
    return step, float(meta["seconds"])


if __name__ == "__main__":
    main()
