"""The one way out of the host's inference mode: weights that a gradient may run through, and everything put back
afterwards.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.model_management
import torch
from torch import Tensor, nn

from ...core.denoiser import NotFinite
from ...core.measure.plots import loss_plot
from ...core.paths import safe_output_path
from ...core.train.run import Run
from ...core.train.session import StoredSession
from ...core.train.state import digest_of, load_state
from ...core.trajectory import Trajectory
from . import paths
from .model.clip import HostEmbedder
from .model.fingerprint import model_fingerprint
from .model.prompts import Prompts
from .model.run import with_denoiser
from .model.traits import check_trainable, check_unet
from .progress import training_reporter
from .ui import say

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
_STORE_EVERY = 60.0  # seconds
_STORING_SHARE = 20  # a state that takes long to write is written so many times more seldom than it takes
_LONGEST_MESSAGE = 400  # characters of an error that go into a report
_LAST_LOSSES = 20

_log = logging.getLogger(__name__)


def ordinary(value: Tensor) -> Tensor:
    """A tensor made in inference mode as one that autograd may save: the same memory, no copy."""
    if not value.is_inference():
        return value
    alias = torch.empty(0, dtype=value.dtype, device=value.device)
    return alias.set_(value.untyped_storage(), value.storage_offset(), value.size(), value.stride())


@contextmanager
def gradients(*modules: nn.Module) -> Iterator[None]:
    """Inside, autograd works, and the weights of ``modules`` are ordinary and frozen. They are swapped where they lie,
    after loading.
    """
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
        work: called with the denoiser, outside of inference mode. Further networks that a gradient runs through it
            wraps in :func:`gradients` itself.

    Raises:
        ValueError: prompts or semantic codes that are one a picture: training takes pictures in another order. Or
            quantised weights.
    """
    for name, prompt in (("positive", prompts.positive), ("negative", prompts.negative)):
        rows = max((len(tensor) for tensor, _ in prompt), default=1)
        if rows > 1:
            raise ValueError(
                "training takes the pictures in an order of its own and needs one prompt or semantic code for all, got"
                f" {rows} as {name}; invert them with one, or train on one picture"
            )

    check_unet(model)
    check_trainable(model)

    def inside(denoiser):
        with gradients(model.model.diffusion_model):
            return work(denoiser)

    return with_denoiser(model, shape, prompts, inside, gradients=True)


def ordinary_path(trajectory: Trajectory, device: torch.device) -> Trajectory:
    """A trajectory whose tensors autograd may save, on a device."""
    moved = trajectory.to(device)
    return replace(moved, **{k: ordinary(v) for k, v in vars(moved).items() if isinstance(v, Tensor)})


def networks_of(embedder, device: torch.device) -> list[nn.Module]:
    """What a gradient runs through in an embedder, brought to a device: itself, or the host's picture tower."""
    if isinstance(embedder, HostEmbedder):
        embedder.load()
        return [embedder.network]
    return [embedder.to(device)]


class NodeSession(StoredSession):
    """One training run of a node: its bar and curve, what is on disk of it, and what is left if it is cancelled.

    The state is written to ``models/hspace_edits/training`` about once a minute and when the run breaks off; the node,
    run again with the same settings, goes on from there, and the best state so far lies where the Load node reads it.
    When it is done the state goes. Where nothing can be written the run goes on all the same; :meth:`summary` says so.

    Args:
        model: MODEL; None where none is at work, only codes.
        label: what is trained, for people.
        pictures: trajectory of the training pictures, or the clean states (or codes) themselves.
        settings: all else that the result depends on.

    Attributes:
        write_best: writes the best state of a run that broke off to a file that a Load node reads; set it once the
            network is there.
        memory: estimated bytes.
        name: of its files.
        file: of its state; None where no folder can be made for it.
        unsaved: why something could not be written, "" if all was.
    """

    def __init__(self, model, label: str, pictures: Trajectory | Tensor, settings: dict[str, Any]):
        values = [pictures] if isinstance(pictures, Tensor) else [pictures.sigmas, pictures.x0, pictures.noisiest]
        fingerprint = model_fingerprint(model) if model is not None else ""
        super().__init__(None, {"model": fingerprint, "pictures": digest_of(*values), **settings}, _STORE_EVERY)
        self.label = label
        self.memory = 0
        self.unsaved = ""
        self.write_best: Callable[[dict[str, Tensor]], Path] | None = None
        self.started = time.monotonic()
        self.resumed_at = 0
        self._report = training_reporter(model, label)
        self._device = model.load_device if model is not None else torch.device("cpu")
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:8]
        words = re.sub(r"[^\w]+", " ", label).strip()[:60] or "run"
        self.name = f"{words} {digest}"
        self.file = self._attempt(lambda: self._path(paths.RUNS, self.name))

    @staticmethod
    def _path(kind: str, name: str) -> Path:
        return safe_output_path(paths.edits_root(kind), name, ".safetensors", overwrite=True)

    def unfinished_path(self, kind: str) -> Path:
        """Where the best state of this run is put if it breaks off."""
        return self._path(kind, f"{self.name} unfinished")

    def begin(self, run: Run) -> None:
        """Go on from the state of an earlier run, if there is one that fits."""
        super().begin(run)
        file = self.file
        if file is not None and self._attempt(file.exists):
            fresh = run.state()
            try:
                load_state(file, run, self.facts)
            except ValueError as error:
                run.resume(fresh)
                self._put_aside(file, error)
            self.resumed_at = run.i

    def _put_aside(self, file: Path, error: Exception) -> None:
        aside = self._attempt(lambda: file.replace(file.with_suffix(".damaged")))
        where = f"it is now {aside.name}, and " if aside else ""
        _log.warning("HSpace: %s; %sthe run starts anew", error, where)

    def step(self, event: dict[str, Any]) -> None:
        """Store the state if it is time, move the bar, and raise if the user cancelled."""
        if self.due:
            self.store()
        self._report(event)

    def store(self) -> None:
        """Write the state, if there is any; a full disk is only told of."""
        started = time.monotonic()
        if self.run is not None and self.run.i > self.resumed_at:
            self._attempt(super().store)
        self._stored_at = time.monotonic()
        self.every = max(_STORE_EVERY, _STORING_SHARE * (self._stored_at - started))

    def _attempt(self, work: Callable[[], T]) -> T | None:
        """Housekeeping must neither end a run nor take the place of why one ended; what it could not do is told of with
        the result.
        """
        try:
            return work()
        except Exception as error:
            self.unsaved = self.unsaved or str(error)[:_LONGEST_MESSAGE]
            _log.warning("HSpace: %s", error)
            return None

    def check_memory(self, need: int, device: torch.device | None = None) -> None:
        """Refuse what will not fit.

        Args:
            need: bytes, from :func:`core.train.memory.needed`.
            device: that has to hold them; None for that of the model of the run.

        Raises:
            ValueError: less is free.
        """
        self.memory = need
        device = device or self._device
        free: Any = comfy.model_management.get_free_memory(device)
        if need > free:
            raise ValueError(
                f"training needs about {need / 2**30:.1f} GB on {device}, {free / 2**30:.1f} GB are free; lower the"
                " batch or use smaller pictures"
            )

    def __enter__(self) -> NodeSession:
        """Itself."""
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Write what there is of a run that broke off, and forget the state of one that came to its end."""
        if kind is not None:
            self._leave_unfinished()
        elif self.file is not None:
            self._attempt(partial(self.file.unlink, missing_ok=True))
        # A ring of run, loop and network would hold all their memory until Python looks for rings.
        self.write_best = None
        run = self.run
        if run is not None:
            run.session = None
        if self.unsaved:
            say(f"the run could not be kept on disk: {self.unsaved}")
        if isinstance(error, NotFinite) and run is not None and run.i > self.resumed_at:
            # The frozen network was sound in the steps before: it is what is trained that drives it out of its range.
            raise NotFinite(f"the training diverged after step {run.i}: {error}. Lower the learning rate") from error

    def _leave_unfinished(self) -> None:
        self.store()
        write_best = self.write_best
        run = self.run
        if write_best is not None and run is not None and run.i:
            self._attempt(lambda: write_best(run.best))

    def summary(self, note: str = "") -> tuple[Tensor, str]:
        """Curve as IMAGE, and a line for people, with why the run could not be kept on disk."""
        run = self.run
        assert run is not None  # noqa: S101 (a run that ended has begun)
        last = run.losses[-_LAST_LOSSES:]
        parts = [f"{self.label}: {run.total} steps in {time.monotonic() - self.started:.0f} s"]
        if self.resumed_at:
            parts.append(f" (resumed at {self.resumed_at})")
        parts.append(f", loss {run.losses[0]:.4f} > {sum(last) / len(last):.4f}")
        if self.memory:
            parts.append(f"; estimated memory {self.memory / 2**20:.0f} MB")
        parts.append(note)
        if self.unsaved:
            parts.append(f"; the run could not be kept on disk: {self.unsaved}")
        return loss_plot(run.losses, run.total, self.label), "".join(parts)


def facts_of(settings: DataclassInstance, *without: str) -> dict[str, Any]:
    """Fields of a method's settings by name, for those of a run; ``without`` are those that change no weight."""
    return {name: value for name, value in asdict(settings).items() if name not in without}


def batch_shape(trajectory: Trajectory, batch: int) -> tuple[int, ...]:
    """Shape `[b c h w]` of the largest batch of a trajectory's pictures."""
    count, *picture = trajectory.x0.shape
    return (min(batch, count), *picture)
