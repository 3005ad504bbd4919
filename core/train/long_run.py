"""A training run of hours or days which stops and goes on exactly where it was: what the scripts of large models share.

The state is one safetensors file: ``net.*`` the weights, ``ema.*`` their moving average, ``m.*`` and ``v.*`` AdamW's moments, and ``step``,
``seconds`` and ``settings`` in its metadata. Nothing else is kept, so that data has to follow from the step alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..own_file import write_bytes

_PARTS = ("net", "ema", "m", "v")


class LongRun:
    """Weights in training, their moving average, AdamW and the clock.

    Args:
        params: what is trained, by name, on its device.
        ema: decay of the average; shorter in the first steps, where it would hold the start.
        faster: names of ``params`` with the factor by which they learn faster than the rest.
        betas, weight_decay: of AdamW, which without decay is Adam.
        average: makes gradients and loss the mean over all processes of a run, in place; None for a single one.
        settings: of the run, JSON values; a state of other settings is not resumed.
    """

    def __init__(
        self, params: Mapping[str, Tensor], ema: float = 0.9995, faster: Mapping[str, float] | None = None, *,
        betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 1e-3, average: Callable[[Sequence[Tensor]], None] | None = None,
        settings: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        self.params, self.decay, self.step = dict(params), ema, 0
        self.average, self.settings = average, dict(settings or {})
        self.ema = {k: p.detach().clone() for k, p in self.params.items()}
        self.losses: list[float] = []
        faster = faster or {}
        self._times = sorted({faster.get(k, 1.0) for k in self.params})
        groups = [{"params": [p for k, p in self.params.items() if faster.get(k, 1.0) == times]} for times in self._times]
        self.optimiser = torch.optim.AdamW(groups, betas=betas, weight_decay=weight_decay, foreach=True)
        self._before, self._started = 0.0, time.perf_counter()
        self._kept = self._started

    @property
    def seconds(self) -> float:
        """Of training, over all the times it was resumed."""
        return self._before + time.perf_counter() - self._started

    def learn(self, loss: Tensor, lr: float) -> None:
        """One step down the gradient of ``loss``, of norm 1 at most, at the learning rate ``lr``.

        Raises:
            RuntimeError: the loss is not finite; the weights are those of before.
        """
        loss.backward()
        mean = loss.detach().reshape(1).clone()
        if self.average is not None:
            self.average([*(p.grad for p in self.params.values() if p.grad is not None), mean])
        value = mean.item()
        if not math.isfinite(value):
            raise RuntimeError(f"the loss became {value} at step {self.step + 1}; go on from the last state with a lower learning rate")
        torch.nn.utils.clip_grad_norm_(list(self.params.values()), 1.0, foreach=True)
        for group, times in zip(self.optimiser.param_groups, self._times, strict=True):
            group["lr"] = lr * times
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.losses.append(value)
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.params.values()], 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def tell(self, total: int, batch: int) -> None:
        """Prints the mean loss and the speed every hundred steps."""
        if self.step % 100 == 0:
            recent, speed = self.losses[-100:], batch * len(self.losses) / (time.perf_counter() - self._started)
            print(f"step {self.step}/{total}  loss {sum(recent) / len(recent):.4f}  {speed:.0f} images/s", flush=True)

    def due(self, minutes: float, total: int) -> bool:
        """Whether to save: at the end, and when ``minutes`` have passed since this last said so."""
        now = time.perf_counter()
        if self.step < total and now - self._kept <= 60 * minutes:
            return False
        self._kept = now
        return True

    def save(self, path: Path) -> None:
        """Write the state; the file of before stays whole until the new one is."""
        tensors: dict[str, Tensor] = {}
        for k, p in self.params.items():
            moments = self.optimiser.state[p]
            for part, value in zip(_PARTS, (p, self.ema[k], moments["exp_avg"], moments["exp_avg_sq"]), strict=True):
                tensors[f"{part}.{k}"] = value.detach().cpu().contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"step": str(self.step), "seconds": f"{self.seconds:.1f}", "settings": json.dumps(self.settings)}
        write_bytes(path, save(tensors, facts))

    @torch.no_grad()
    def resume(self, path: Path) -> None:
        """Go on where the run of a state file stopped.

        Raises:
            ValueError: it is of other settings, of another network, or no such file.
        """
        try:
            with safe_open(path, "pt") as file:
                facts = file.metadata()
            state = load_file(path)
            known = dict(json.loads(facts.get("settings", "{}")))
            step, before = int(facts["step"]), float(facts["seconds"])
        except (OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path} is not the state of a run ({str(error)[:200]}); start without --resume, or name another file"
            ) from error
        other = sorted(k for k in self.settings.keys() & known.keys() if self.settings[k] != known[k])
        if other:
            was = ", ".join(f"{k} {known[k]} and not {self.settings[k]}" for k in other)
            raise ValueError(f"{path} is of a run with other settings ({was}); use those, or another name")
        shapes = {f"{part}.{k}": p.shape for part in _PARTS for k, p in self.params.items()}
        odd = sorted(k for k in state.keys() | shapes.keys() if k not in state or state[k].shape != shapes.get(k))
        if odd:
            raise ValueError(f"{path} is the state of another network ({', '.join(odd[:3])}); name another file, or start without --resume")
        self.step, self._before = step, before
        for k, p in self.params.items():
            p.copy_(state[f"net.{k}"])
            self.ema[k].copy_(state[f"ema.{k}"])
            moments = {"exp_avg": state[f"m.{k}"].to(p.device), "exp_avg_sq": state[f"v.{k}"].to(p.device)}
            self.optimiser.state[p] = {"step": torch.tensor(float(self.step)), **moments}
        print(f"resumed at step {self.step}", flush=True)


def rate(step: int, total: int, warm_up: int) -> float:
    """Share of the learning rate: rises over ``warm_up`` steps, holds for 40 % of the run, falls along a cosine to 2 %."""
    fall = 0.5 * (1 + math.cos(math.pi * max(0.0, step / total - 0.4) / 0.6))
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * fall)


def options(about: str | None, out: Path, images: int, seed: int) -> argparse.ArgumentParser:
    """The command line of such a script, with its defaults; its state goes into ``output/``."""
    p = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    p.add_argument("--out", type=Path, default=out)
    p.add_argument("--state", type=Path, default=Path("output") / f"{out.stem}_state.safetensors", help="training state for --resume")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--images", type=int, default=images, help="length of the whole schedule")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--ema", type=float, default=0.9995)
    p.add_argument("--seed", type=int, default=seed)
    p.add_argument("--minutes-between-saves", type=float, default=4)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p
