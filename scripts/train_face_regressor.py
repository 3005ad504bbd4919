"""Train the face regressor on the renderer's stream: ``python -m core.faces.train_regressor``."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from ..own_file import write_own
from .factors import sample
from .regressor import SIZE, Regressor, encode, own_error
from .render import render


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Noise, blur and faint ghosts of another face, so that generated faces are read as well as rendered ones. `[b 3 h w]` in 0..1."""
    n = len(x)

    def rand() -> Tensor:
        return torch.rand(n, 1, 1, 1, generator=generator).to(x.device)

    x = torch.lerp(x, x.roll(1, 0), 0.12 * rand() * (rand() < 0.3))
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, rand() * (rand() < 0.5))
    return x + torch.randn(x.shape, generator=generator).to(x.device) * 0.05 * rand()


def main() -> None:
    """Command line entry."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=Path, default=Path("weights/face_regressor.safetensors"))
    p.add_argument("--images", type=int, default=600_000)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--seed", type=int, default=3)
    p.add_argument("--resume", action="store_true", help="start from the weights in --out (its optimiser state is small and made anew)")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    torch.manual_seed(a.seed)
    net = Regressor().to(a.device)
    if a.resume and a.out.exists():
        net.load_state_dict({k: v.float() for k, v in load_file(a.out).items()})
    optimiser = torch.optim.AdamW(net.parameters(), a.lr, foreach=True)
    total, started = a.images // a.batch, time.perf_counter()
    for step in range(total):
        for group in optimiser.param_groups:
            group["lr"] = a.lr * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total)))
        g = torch.Generator().manual_seed(a.seed * 1_000_003 + step)
        faces = sample(a.batch, g)
        half_worn = torch.rand(a.batch, generator=g)
        faces["glasses"] = torch.where(half_worn < 0.2, half_worn * 5, faces["glasses"])  # opacity is read linearly
        with torch.no_grad():
            x = augment(render(faces, SIZE, device=a.device)[0], g)
        loss = F.mse_loss(net(x), encode(faces).to(a.device))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if (step + 1) % 250 == 0 or step + 1 == total:
            seen = (step + 1) * a.batch
            print(f"step {step + 1}/{total}  loss {loss.item():.4f}  {seen / (time.perf_counter() - started):.0f} images/s", flush=True)
            _save(net, a.out, seen, a.device)


def _save(net: Regressor, path: Path, images: int, device: str) -> None:
    faces = sample(2048, torch.Generator().manual_seed(77), held_out=True)
    net.eval()
    error = own_error(net, faces, render(faces, SIZE, device=device)[0])
    net.train()
    path.parent.mkdir(parents=True, exist_ok=True)
    info = {"format": "hspace_face_regressor", "version": 1, "images": images, "error": error}
    write_own(path, {k: v.half() for k, v in net.state_dict().items()}, info)
    print(json.dumps(error), flush=True)


if __name__ == "__main__":
    main()
