"""The one way out of the host's inference mode: weights that a gradient may run through, and everything put back afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management
import torch
from torch import Tensor, nn

from ...core.paths import safe_output_path
from ...core.plots import loss_plot
from ...core.train.fit import Fit
from ...core.train.state import digest_of, load_state, save_state
from ...core.trajectory import Trajectory
from . import paths
from .clip import HostEmbedder
from .denoiser import Prompts, with_denoiser
from .fingerprint import model_fingerprint
from .progress import training_reporter

T = TypeVar("T")
_SAVE_EVERY = 60.0  # seconds


_log = logging.getLogger(__name__)


def _try(write: Callable[[Any], object], what: Any) -> None:
    """A state that cannot be written must not end a run, nor take the place of why one ended."""
    try:
        write(what)
    except (OSError, ValueError) as error:
        _log.warning("HSpace: %s", error)


def ordinary(value: Tensor) -> Tensor:
    """A tensor made in inference mode as one that autograd may save: the same memory, no copy."""
    if not value.is_inference():
        return value
    alias = torch.empty(0, dtype=value.dtype, device=value.device)
    return alias.set_(value.untyped_storage(), value.storage_offset(), value.size(), value.stride())


@contextmanager
def gradients(*modules: nn.Module) -> Iterator[None]:
    """Inside, autograd works, and the weights of ``modules`` are ordinary and frozen. They are swapped where they lie, after loading."""
    swapped: list[tuple[dict[str, Any], str, Tensor]] = []
    with torch.inference_mode(False):
        try:
            for module in (part for m in modules for part in m.modules()):
                stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
                for store in stores:
                    for name, value in store.items():
                        if value is None or not value.is_inference():
                            continue
                        swapped.append((store, name, value))
                        alias: Any = ordinary(value.detach())
                        store[name] = nn.Parameter(alias, requires_grad=False) if store is module._parameters else alias
            yield
        finally:
            for store, name, value in reversed(swapped):
                store[name] = value


def with_training(model, shape: torch.Size | tuple[int, ...], prompts: Prompts, work: Callable[..., T]) -> T:
    """As :func:`with_denoiser`, for work that trains something beside the frozen MODEL.

    Args:
        model: MODEL.
        shape: of the largest batch.
        prompts: what the model is conditioned on.
        work: called with the denoiser, outside of inference mode. Further networks that a gradient runs through it wraps in
            :func:`gradients` itself.

    Raises:
        ValueError: prompts or semantic codes that are one a picture: training takes pictures in another order.
    """
    rows = max((len(tensor) for tensor, _ in [*prompts.positive, *prompts.negative]), default=1)
    if rows > 1:
        raise ValueError(
            f"training takes the pictures in an order of its own and needs one prompt or semantic code for all, got {rows}; invert them with "
            "one, or train on one picture"
        )

    def inside(denoiser):
        with gradients(model.model.diffusion_model):
            return work(denoiser)

    return with_denoiser(model, shape, prompts, inside, gradients=True)


def ordinary_path(path: Trajectory, device: torch.device) -> Trajectory:
    """A trajectory whose tensors autograd may save, on a device."""
    moved = path.to(device)
    return replace(moved, **{k: ordinary(v) for k, v in vars(moved).items() if isinstance(v, Tensor)})


def networks_of(embedder, device: torch.device) -> list[nn.Module]:
    """What a gradient runs through in an embedder, brought to a device: itself, or the host's picture tower."""
    if isinstance(embedder, HostEmbedder):
        embedder.load()
        return [embedder.network]
    return [embedder.to(device)]


class Run:
    """One training run of a node: its bar and curve, what is on disk of it, and what is left if it is cancelled.

    The state is written to ``models/hspace_edits/training`` about once a minute and when the run breaks off; the node, run again with the
    same settings, goes on from there, and the best state so far lies where the Load node finds it. When it is done the state goes.

    Args:
        model: MODEL; None where none is at work, only codes.
        label: what is trained, for people.
        path: of the training pictures, or the clean states (or codes) themselves.
        settings: all else that the result depends on.

    Attributes:
        keep: writes the best state of a run that broke off to a file that a Load node reads; set it once the network is there.
        fit: the run in core, once it has begun.
        need: estimated bytes.
    """

    def __init__(self, model, label: str, path: Trajectory | Tensor, settings: dict[str, Any]):
        seen = [path] if isinstance(path, Tensor) else [path.sigmas, path.x0, path.noisiest]
        self.settings = {"model": model_fingerprint(model) if model is not None else "", "pictures": digest_of(*seen), **settings}
        self.label, self.need = label, 0
        self.keep: Callable[[dict[str, Tensor]], Path] | None = None
        self.fit: Fit | None = None
        self._report = training_reporter(model, label)
        self._device = model.load_device if model is not None else torch.device("cpu")
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]
        words = re.sub(r"[^\w]+", " ", label).strip()[:60] or "run"
        self.file = safe_output_path(paths.edits_root(paths.RUNS), f"{words} {digest}", ".safetensors", overwrite=True)
        self._next, self.started, self.resumed = time.monotonic() + _SAVE_EVERY, time.monotonic(), 0

    def begin(self, fit: Fit) -> None:
        """For the ``begin`` of a core loop."""
        self.fit = fit
        if self.file.exists():
            fresh = fit.state()
            try:
                load_state(self.file, fit, self.settings)
            except ValueError as error:
                fit.resume(fresh)
                aside = self.file.replace(self.file.with_suffix(".damaged"))
                _log.warning("HSpace: %s; it is now %s, and the run starts anew", error, aside.name)
            self.resumed = fit.i

    def step(self, state: dict[str, Any]) -> None:
        """For the ``callback`` of a core loop."""
        if time.monotonic() > self._next:
            started = time.monotonic()
            self.save()
            # Writing may take long; it is to stay a small part of the time.
            self._next = time.monotonic() + max(_SAVE_EVERY, 20 * (time.monotonic() - started))
        self._report(state)

    def kept(self, kind: str) -> Path:
        """Where the best state of this run is put if it breaks off."""
        return safe_output_path(paths.edits_root(kind), f"{self.file.stem} unfinished", ".safetensors", overwrite=True)

    def save(self) -> None:
        """Write the state, if there is any; a full disk is only told of."""
        if self.fit is not None and self.fit.i > self.resumed:
            _try(lambda fit: save_state(self.file, fit, self.settings), self.fit)

    def check_memory(self, need: int, device: torch.device | None = None) -> None:
        """Refuse what will not fit.

        Args:
            need: bytes, from :func:`core.train.memory.needed`.
            device: that has to hold them; None for that of the model of the run.

        Raises:
            ValueError: less is free.
        """
        self.need = need
        device = device or self._device
        free: Any = comfy.model_management.get_free_memory(device)
        if need > free:
            raise ValueError(
                f"training needs about {need / 2**30:.1f} GB on {device}, {free / 2**30:.1f} GB are free; lower the batch or use smaller "
                "pictures"
            )

    def __enter__(self) -> Run:
        """Itself."""
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Keep what there is of a run that broke off, and forget the state of one that came to its end."""
        if kind is not None:
            self.save()
            if self.keep is not None and self.fit is not None and self.fit.i:
                _try(self.keep, self.fit.best)
        else:
            self.file.unlink(missing_ok=True)

    def summary(self, steps_text: str = "") -> tuple[Tensor, str]:
        """Curve as IMAGE, and a line for people."""
        fit = self.fit
        assert fit is not None  # noqa: S101 (a run that ended has begun)
        last = fit.losses[-20:]
        text = (
            f"{self.label}: {fit.total} steps in {time.monotonic() - self.started:.0f} s"
            f"{f' (resumed at {self.resumed})' if self.resumed else ''}, loss {fit.losses[0]:.4f} > {sum(last) / len(last):.4f}"
            f"{f'; estimated memory {self.need / 2**20:.0f} MB' if self.need else ''}{steps_text}"
        )
        return loss_plot(fit.losses, fit.total, self.label), text
