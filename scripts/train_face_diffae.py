"""Train the embedded diffusion autoencoders on the renderer's stream (arXiv 2111.15640; with levels arXiv 2304.11829).

``python -m scripts.train_face_diffae --out weights/face_diffae.safetensors``. With the paper's loss alone a network of
this size reconstructs well while it ignores its code (hardly any gradient reaches the code at high noise). Hence
v-prediction (arXiv 2202.00512) and two tasks that are solved from the code alone and thrown away: a small decoder draws
the picture, every part of the face counting alike, and a linear layer says how the pack's image embedder sees it, so
that small things such as the iris leave a trace. ``--keep-codes`` trains the U-Net of ``--start`` alone, for the codes
that its encoder makes. ``--resume`` goes on exactly where a run stopped.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from core.faces.embedder import DIM, load_embedder
from core.faces.factors import sample
from core.faces.render import render
from core.files.diffae import NetworkFacts, load_autoencoder, write_autoencoder
from core.networks.diffae import DiffAEConfig
from core.train.diffae import SCHEDULE, Learner, autoencoder_of
from core.train.noised import noised
from core.train.run import Run, rate
from core.train.session import begin_run, options
from core.weights_folder import weights_folder

from .face_emphasis import EYE_COLOR, FINE, pixel_weights
from .train_face_model import random_steps

SIZE = 64
LEVELS = (0, 3)
PARTS = {"eyes": 4.0}
"""How much a part of the face counts for the decoder that is thrown away, if not 1: the iris is a small part of the
eyes."""


def config(levels: int) -> DiffAEConfig:
    """Configure the embedded DiffAE (0 levels) or HDAE (3)."""
    return DiffAEConfig(
        channels=(96, 128, 128),
        encoder=(64, 128, 128),
        attention=(False, True, False),
        encoder_attention=(False, True, False),
        blocks=1,
        emb=128,
        code=128,
        levels=levels,
        patch=4,
    )


def by_parts(error: Tensor, parts: dict[str, Tensor]) -> Tensor:
    """Average an error `[b h w]` over each part's pixels `[b h w]`, and over the parts."""
    means = [PARTS.get(name, 1.0) * (cover * error).sum() / cover.sum().clamp_min(1) for name, cover in parts.items()]
    return torch.stack(means).sum() / sum(PARTS.get(name, 1.0) for name in parts)


class FaceLearner(Learner):
    """It also says how the pack's image embedder sees the picture; thrown away like the sketch."""

    def __init__(self, levels: int):
        super().__init__(config(levels), sketch=SIZE)
        self.sight = nn.Linear(math.prod(self.net.config.code_shape), DIM)

    def forward(self, x: Tensor, noisy: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute as :class:`Learner` does, with the embedding `[b e]` instead of the code it is read from."""
        v, sketched, code = super().forward(x, noisy, t)
        return v, sketched, self.sight(code.flatten(1))


def main() -> None:
    """Train an embedded autoencoder."""
    p = options(__doc__, weights_folder() / "face_diffae.safetensors", images=205_000, seed=34)
    p.add_argument("--levels", type=int, choices=LEVELS, default=0, help="0: DiffAE; 3: HDAE")
    p.add_argument(
        "--start",
        type=Path,
        default=None,
        help="weights to start from where names and shapes agree: an HDAE from a DiffAE",
    )
    p.add_argument(
        "--keep-codes", action="store_true", help="with --start: its encoder stays as it is, and so do all codes"
    )
    p.add_argument(
        "--aside",
        type=float,
        default=1.0,
        help="weight of what is solved from the code alone; falls to three tenths of it",
    )
    p.add_argument("--sight", type=float, default=1.5, help="of which the embedding, beside the picture")
    p.add_argument("--embedder", type=Path, default=weights_folder() / "face_embedder.safetensors")
    a = p.parse_args()
    if a.keep_codes and a.start is None:
        p.error("--keep-codes needs the weights that make the codes; give --start")
    device = torch.device(a.device)
    torch.manual_seed(a.seed)
    net = FaceLearner(a.levels)
    if a.start is not None:
        before, own = load_autoencoder(a.start).net.state_dict(), net.net.state_dict()
        fits = {k: before[k] for k, v in own.items() if k in before and before[k].shape == v.shape}
        if a.keep_codes and any(k.startswith("encoder.") for k in own.keys() - fits.keys()):
            p.error(f"the encoder of {a.start} is not that of --levels {a.levels}; --keep-codes needs one that is")
        net.net.load_state_dict({**own, **fits})
    net.to(device).train()
    for name, value in net.named_parameters():
        decoder = name.startswith("net.") and not name.startswith("net.encoder.")
        value.requires_grad_(decoder or not a.keep_codes)

    def write(path: Path, run: Run) -> None:
        write_autoencoder(
            path,
            {**net.net.state_dict(), **autoencoder_of(run.average)},
            NetworkFacts(SIZE, net.net.config.patch, SCHEDULE, "v"),
            half=True,
            more={"images": run.i * a.batch, "minutes": round(run.seconds / 60, 1), "device": a.device},
        )

    run = begin_run(a, net, write)
    embedder = load_embedder(a.embedder, device)
    # Half flat: where nothing fine is drawn, noise that is left behind is seen too.
    counts = (1 + pixel_weights(FINE | EYE_COLOR, SIZE).to(device)) / 2

    def loss(g: torch.Generator) -> Tensor:
        drawn, parts = render(sample(a.batch, g), SIZE, masks=True, device=device)
        x = drawn * 2 - 1
        t = random_steps(SCHEDULE, a.batch, g).to(device)
        seen, target = noised(SCHEDULE, x, torch.randn(x.shape, generator=g).to(device), t)
        aside = torch.zeros((), device=device)
        with torch.autocast(device.type, torch.bfloat16):
            if a.keep_codes:
                v = net.net(seen, t, net.net.encoder(x))
            else:
                v, sketched, told = net(x, seen, t)
                with torch.no_grad():
                    wanted = embedder.embed_image(x)
                aside = by_parts((sketched.float() - x).square().mean(1), parts)
                aside = aside + a.sight * (told.float() - wanted.float()).square().sum(1).mean()
        fading = a.aside * (0.3 + 0.7 * rate(run.i, run.total, 200))
        return (counts * (v.float() - target).square()).mean() + fading * aside

    run.train(loss, a.seed, partial(rate, warm_up=200))
    print(f"{run.i * a.batch} images in {run.seconds / 60:.0f} minutes on {device}", flush=True)


if __name__ == "__main__":
    main()
