"""Train the face regressor on the renderer's stream: ``python -m scripts.train_face_regressor``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from core.faces.factors import sample
from core.faces.regressor import SIZE, Regressor, encode, own_error
from core.faces.render import render
from core.own_file import write_own
from core.train.run import cosine
from core.train.session import begin_run, options
from core.weights_folder import weights_folder


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise, blur and faint ghosts of another face.

    Generated faces are then read as well as rendered ones. Pictures `[b 3 h w]` in 0..1.
    """
    n = len(x)

    def rand() -> Tensor:
        return torch.rand(n, 1, 1, 1, generator=generator).to(x.device)

    x = torch.lerp(x, x.roll(1, 0), 0.12 * rand() * (rand() < 0.3))
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, rand() * (rand() < 0.5))
    return x + torch.randn(x.shape, generator=generator).to(x.device) * 0.05 * rand()


def warm_cosine(step: int, total: int) -> float:
    """Compute the share of the learning rate: it rises over 100 steps and falls along a cosine to 1 %."""
    return min(1.0, (step + 1) / 100) * (0.01 + 0.99 * cosine(step, total))


def main() -> None:
    """Train the embedded regressor."""
    p = options(__doc__, weights_folder() / "face_regressor.safetensors", images=600_000, seed=3)
    p.set_defaults(batch=128, lr=2e-3, ema=0.0)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    net = Regressor().to(a.device)
    run = begin_run(a, net, lambda path, run: write(net, path, run.i * a.batch, a.device), clip=0.0, options={})

    def loss(g: torch.Generator) -> Tensor:
        faces = sample(a.batch, g)
        half_worn = torch.rand(a.batch, generator=g)
        faces["glasses"] = torch.where(half_worn < 0.2, half_worn * 5, faces["glasses"])  # opacity is read linearly
        with torch.no_grad():
            x = augment(render(faces, SIZE, device=a.device)[0], g)
        return F.mse_loss(net(x), encode(faces).to(a.device))

    run.train(loss, a.seed, warm_cosine)


def write(net: Regressor, path: Path, images: int, device: str) -> None:
    """Write the weights, and their errors on held-out faces."""
    faces = sample(2048, torch.Generator().manual_seed(77), held_out=True)
    net.eval()
    error = own_error(net, faces, render(faces, SIZE, device=device)[0])
    net.train()
    info = {"format": "hspace_face_regressor", "version": 1, "images": images, "error": error}
    write_own(path, {k: v.half() for k, v in net.state_dict().items()}, info)
    print(json.dumps(error), flush=True)


if __name__ == "__main__":
    main()
