"""Every node that can run for long obeys Cancel within seconds, and leaves nothing behind."""

import threading
import time
from importlib import import_module

import pytest
import torch

from .good_inputs import Good

AFTER, SLOWEST = 0.5, 5.0  # seconds; those of this process, so that a busy machine fails nothing
LONG = {
    "HSpaceAsyrpLevels": {"trajectory": "long trajectory"},
    "HSpaceBaselineDirections": {
        "model": "model",
        "trajectory": "trajectory",
        "mask": "mask",
        "k": 64,
        "rank": 64,
        "iterations": 64,
    },
    "HSpaceDials": {"trajectory": "long trajectory", "frames": 17, "sigma_start": 100.0},
    "HSpaceDirectionAtlas": {"trajectory": "long trajectory", "columns": 15, "strength": 1.0, "sigma_end": 0.005},
    "HSpaceDiscoverRegion": {"model": "model", "trajectory": "trajectory", "mask": "mask", "k": 64, "iterations": 64},
    "HSpaceEditFriendlyInversion": {"sigmas": "many sigmas"},
    "HSpaceEditState": {"how": "guidance", "repeats": 128, "trajectory": "batch of states"},
    "HSpaceFitImageLora": {"steps": 100_000},
    "HSpaceFitLatentSVD": {"steps": 100_000},
    "HSpaceGlobalDirections": {"model": "model", "trajectory": "trajectory", "mask": "mask", "k": 64, "iterations": 64},
    "HSpaceIntoDomain": {"steps": 100, "repeats": 64},
    "HSpaceInvertImage": {"sigmas": "many sigmas", "iterations": 50},
    "HSpaceMorphFrames": {"frames": 4096},
    "HSpaceNullTextOptimise": {"inner_steps": 500, "tolerance": 0.0},
    "HSpacePerceptualReschedule": {"frames": "many faces"},
    "HSpaceRegionBasis": {
        "model": "model",
        "trajectory": "trajectory",
        "mask": "mask",
        "max_k": 64,
        "max_rank": 128,
        "iterations": 64,
    },
    "HSpaceRenderTrajectory": {"trajectory": "long trajectory"},
    "HSpaceSampleCodes": {"count": 256, "steps": 1000},
    "HSpaceTrackDirections": {
        "model": "model",
        "trajectory": "trajectory",
        "mask": "mask",
        "k": 64,
        "levels": 64,
        "iterations": 64,
    },
    "HSpaceTrainAsyrp": {"epochs": 1000},
    "HSpaceTrainDeltaMapper": {"steps": 1_000_000, "width": 1024, "batch": 1024},
    "HSpaceTrainDiffusionCLIP": {"epochs": 100, "growth": 1.0},
    "HSpaceTrainPada": {"steps": 1_000_000, "width": 1024, "batch": 1024},
    "HSpaceTrainRectifier": {"steps": 1_000_000},
    "HSpaceTrainRectifierEdit": {"steps": 1_000_000},
}


@pytest.fixture(scope="module")
def good(executor):
    """Good values, and some that take long."""
    values = Good(executor)
    prolong(values)
    return values


def prolong(good: Good) -> None:
    """Add values that take long."""
    values = good.values
    (sigmas,) = good.executor.call("BasicScheduler", model=values["model"], scheduler="karras", steps=300, denoise=1.0)

    steps = values["trajectory"]["sigmas"]
    many = torch.linspace(float(steps[0]), 0, 400, dtype=torch.float64)
    states = values["trajectory"]["states"][:1].expand(400, -1, -1, -1, -1).clone()
    values["many sigmas"] = sigmas
    values["long trajectory"] = {
        **values["trajectory"],
        "sigmas": many,
        "states": states,
        "residual": None,
        "reconstruction": None,
    }
    values["batch of states"] = {
        **values["trajectory"],
        "states": values["trajectory"]["states"].repeat(1, 64, 1, 1, 1),
        "reconstruction": None,
        "world": None,
    }
    values["many faces"] = values["faces"].repeat(80, 1, 1, 1)


def management():
    """The host's, which can be imported once the host is there."""
    return import_module("comfy.model_management")


def left_behind(good: Good) -> list:
    """What a run could leave on the models."""
    states = []
    for name in ("model", "text model", "coded", "small model"):
        patcher = good.values[name]
        modules = list(patcher.model.modules())
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)
        grads = sum(p.requires_grad or p.grad is not None for p in patcher.model.parameters())
        trained = sum(m.training for m in patcher.model.diffusion_model.modules())
        states.append(
            (name, hooks, grads, trained, len(patcher.patches), len(patcher.backup), len(patcher.object_patches_backup))
        )
    return [*states, bool(getattr(management(), "in_training", False))]


@pytest.mark.sweep("")
@pytest.mark.parametrize("kind", sorted(LONG))
def test_cancel(good, kind):
    executor, by_node = good.executor, LONG[kind]
    inputs = {
        **good.inputs(kind),
        **{k: good.values[v] if isinstance(v, str) and v in good.values else v for k, v in by_node.items()},
    }
    if executor.classes[kind].define_schema().is_input_list:
        inputs = {k: [v] for k, v in inputs.items()}
    before, cancelled = left_behind(good), []

    def cancel() -> None:
        cancelled.append(time.process_time())
        management().interrupt_current_processing()

    timer = threading.Timer(AFTER, cancel)
    timer.start()
    try:
        with pytest.raises(management().InterruptProcessingException):
            executor.call(kind, **inputs)
    finally:
        timer.join()
        management().interrupt_current_processing(False)
    assert time.process_time() - cancelled[0] < SLOWEST
    assert left_behind(good) == before
