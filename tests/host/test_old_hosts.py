"""A ComfyUI that is too old gets one line: which version is there, which is needed, how to update."""

import asyncio
import re
import sys
import types

import pytest

from devtools import host

OLD = "ComfyUI-HSpace needs ComfyUI {floor} or newer, but this is {version}; update ComfyUI"


def entry(executor):
    """Ask the pack for its nodes, as a starting host does."""
    return asyncio.run(sys.modules[executor.pack].comfy_entrypoint())


@pytest.mark.parametrize("version", ["0.19.3", "v0.3.75", "0.21.99"])
def test_an_old_version_is_named_in_one_line(executor, monkeypatch, version):
    floor = executor.module("nodes.host.floor")
    monkeypatch.setattr(sys.modules["comfyui_version"], "__version__", version)
    with pytest.raises(RuntimeError) as error:
        entry(executor)
    text = str(error.value)
    assert text.startswith(OLD.format(floor=floor.FLOOR, version=version)) and "\n" not in text and "git pull" in text


@pytest.mark.parametrize("version", ["0.22.0", "0.22", "0.30.0", "0.33.0+desktop", "1.0.0", "nightly"])
def test_the_floor_and_newer_versions_pass(executor, monkeypatch, version):
    monkeypatch.setattr(sys.modules["comfyui_version"], "__version__", version)
    assert type(entry(executor)).__name__ == "HSpaceExtension"


def test_a_host_without_the_patch_point_is_refused_whatever_it_calls_itself(executor, monkeypatch):
    monkeypatch.delattr(sys.modules["comfy.model_patcher"].ModelPatcher, "set_model_middle_block_after_patch")
    with pytest.raises(RuntimeError, match=r"lacks the patch point behind a U-Net's middle block; update"):
        entry(executor)


def test_a_host_without_advanced_inputs_is_refused(executor, monkeypatch):
    class Input:
        def __init__(self, id, options=None, tooltip=None):
            pass

    monkeypatch.setattr(
        sys.modules["comfy_api.latest"], "io", types.SimpleNamespace(Combo=types.SimpleNamespace(Input=Input))
    )
    with pytest.raises(RuntimeError, match="inputs that are marked as advanced"):
        entry(executor)


def test_pyproject_tells_the_registry_the_same(executor):
    wanted = re.search(r'requires-comfyui = ">=([\d.]+)"', (host.ROOT / "pyproject.toml").read_text("utf-8"))
    assert wanted is not None and wanted[1] == executor.module("nodes.host.floor").FLOOR
