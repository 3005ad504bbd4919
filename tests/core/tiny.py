"""What tests of training share: a plain embedder, and runs that are cancelled."""

from pathlib import Path

import torch
from torch.nn import functional as F

from core.train.fit import Fit
from core.train.state import save_state

NAMES = {"grey": (0.1, 0.1, 0.1), "red": (1.0, -0.6, -0.6), "blue": (-0.6, -0.6, 1.0)}


class Colours:
    """An embedder whose space is plain: mean colour of a picture, or of a named colour."""

    space = "colours"

    def embed_image(self, images):
        return F.normalize(torch.cat([images.mean((2, 3)), torch.full_like(images[:, :1, 0, 0], 0.5)], 1), dim=1)

    def embed_text(self, prompts):
        rows = [next(v for k, v in NAMES.items() if k in p) for p in prompts]
        return F.normalize(torch.tensor([[*r, 0.5] for r in rows]), dim=1)


def redness(x) -> float:
    """Red over the mean of green and blue."""
    return float((x[:, 0] - x[:, 1:].mean(1)).mean())


class Cancelled(Exception):
    """What the callback of a cancelled run raises."""


def stopped(at: int, file: Path | None = None) -> tuple[dict, list[Fit]]:
    """Options that cancel a training run after ``at`` steps, and the run; its state goes to ``file`` if given."""
    kept: list[Fit] = []

    def stop(state):
        if state["i"] + 1 == at:
            if file is not None:
                save_state(file, kept[0], {})
            raise Cancelled

    return {"callback": stop, "begin": kept.append}, kept
