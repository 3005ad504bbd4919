"""Train the face embedder on the renderer's stream: ``python -m scripts.train_face_embedder``.

Contrastive loss (arXiv 2103.00020) with soft targets: a sentence that leaves something out is true of several faces of
a batch, and all of these count as its partners. The last quarter of the pictures are first changed against the net
(arXiv 1805.12152): a net that withstands this asks an editor for things that can be seen, not for fine patterns.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from core.faces.captions import caption
from core.faces.embedder import SIZE, FaceEmbedder, tokens
from core.faces.factors import Factors, sample
from core.faces.render import render
from core.faces.words import ATTRIBUTES, attributes, describe
from core.own_file import write_own
from core.train.session import begin_run, options
from core.weights_folder import weights_folder

from .train_face_regressor import augment, warm_cosine

HARDENED, LENGTH = 0.25, 3.0
"""Share of the run in which pictures are changed against the net, and how far at most (L2, in -1..1)."""


def true_of(values: Tensor, said: list[list[int]]) -> Tensor:
    """Say which sentence holds for which face: `[b b]` bool, row = sentence.

    ``values`` `[b a]`; ``said``: attributes of each sentence.
    """
    rows = [(values[:, about] == values[i, about]).all(1) for i, about in enumerate(said)]
    return torch.stack(rows)


def loss_of(net: FaceEmbedder, images: Tensor, texts: list[str], match: Tensor) -> Tensor:
    """Compute the cross entropy both ways, each row of targets spread over what matches."""
    scores = net.scale.exp().clamp(max=50) * net.sentences(tokens(texts).to(images.device)) @ net.embed_image(images).T
    wanted = match.to(scores)
    both = (
        F.cross_entropy(scores, wanted / wanted.sum(1, keepdim=True)),
        F.cross_entropy(scores.T, wanted.T / wanted.T.sum(1, keepdim=True)),
    )
    return (both[0] + both[1]) / 2


def against(net: FaceEmbedder, images: Tensor, texts: list[str], match: Tensor, length: Tensor) -> Tensor:
    """Move ``images`` `[b 3 h w]` by ``length`` `[b]` (L2, in -1..1) the way that worsens the loss most."""
    images = images.detach().requires_grad_(True)
    (way,) = torch.autograd.grad(loss_of(net, images, texts, match), images)
    return (images + length.view(-1, 1, 1, 1) * F.normalize(way.flatten(1), dim=1).view_as(way)).detach()


@torch.no_grad()
def retrieval(net: FaceEmbedder, faces: Factors, n: int = 256) -> dict[str, float]:
    """Measure the share of ``n`` different captions whose own picture is the nearest, and the other way round.

    A caption says less than its picture shows, so several can be true of one picture: the share of pictures whose
    nearest caption is true of them is given as well.
    """
    chosen: dict[str, int] = {}
    for i in range(len(faces["smile"])):
        chosen.setdefault(caption(faces, i), i)
        if len(chosen) == n:
            break
    rows = torch.tensor(list(chosen.values()))
    device = net.places.device
    images = render({k: v[rows] for k, v in faces.items()}, SIZE, device=device)[0] * 2 - 1
    scores = net.embed_image(images) @ net.embed_text(list(chosen)).T
    own, said = torch.arange(len(rows), device=device), list(chosen)
    true = sum(_holds(said[int(i)], caption) for i, caption in zip(scores.argmax(1), said, strict=True))
    return {
        "captions": len(rows),
        "image to text R@1": float((scores.argmax(1) == own).float().mean()),
        "text to image R@1": float((scores.argmax(0) == own).float().mean()),
        "image to a true caption": true / len(rows),
    }


def _holds(less: str, more: str) -> bool:
    """Say whether all that one caption says is said by another: "red hair" by "long red hair"."""
    a, b = (re.sub(r"^a | person with", "", c.replace(" person with ", " and ")).split(" and ") for c in (less, more))
    return all(any(x == y or (x.endswith("hair") and y.endswith(x)) for y in b) for x in a)


def main() -> None:
    """Train the embedded embedder."""
    p = options(__doc__, weights_folder() / "face_embedder.safetensors", images=500_000, seed=5)
    p.set_defaults(batch=256, lr=2e-3, ema=0.0)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    net = FaceEmbedder().to(a.device)
    run = begin_run(a, net, lambda path, run: write(net, path, run.i * a.batch), options={"weight_decay": 0.01})

    def loss(g: torch.Generator) -> Tensor:
        rng = random.Random(g.initial_seed())  # noqa: S311
        faces = sample(a.batch, g)
        values = attributes(faces)
        # One sentence in four may say everything, as a full caption does.
        texts, said = zip(*(describe(v, rng, rng.choice((6, 6, 6, len(ATTRIBUTES)))) for v in values), strict=True)
        with torch.no_grad():
            x = augment(render(faces, SIZE, device=a.device)[0], g) * 2 - 1
        match = true_of(values, list(said))
        if run.i >= (1 - HARDENED) * run.total:
            x = against(net, x, list(texts), match, (LENGTH * torch.rand(a.batch, generator=g)).to(a.device))
        return loss_of(net, x, list(texts), match)

    run.train(loss, a.seed, warm_cosine)


def write(net: FaceEmbedder, path: Path, images: int) -> None:
    """Write the weights, and how well they find held-out pictures and captions."""
    net.eval()
    found = retrieval(net, sample(4096, torch.Generator().manual_seed(78), held_out=True))
    net.train()
    info = {"format": "hspace_face_embedder", "version": 1, "images": images, **found}
    write_own(path, {k: v.half() for k, v in net.state_dict().items()}, info)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
