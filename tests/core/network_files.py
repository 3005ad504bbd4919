"""Files of networks, and what a refusal of one has to say."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.files.checkpoint import load_denoiser, load_network
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.guided import GuidedConfig, GuidedUNet

DDPM = DDPMConfig(3, 3, (32, 64), 1, (False, True))
GUIDED = GuidedConfig(3, 6, 32, 32, (32, 64), 1, (False, True))
FACE = {
    "format": "hspace_face_model",
    "version": 1,
    "prediction": "v",
    "patch": 4,
    "size": 64,
    "betas": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "steps": 1000,
    "images": 1,
    "minutes": 0.1,
    "device": "cpu",
}


def weights(config=DDPM):
    torch.manual_seed(5)
    net = DDPMUNet(config) if isinstance(config, DDPMConfig) else GuidedUNet(config)
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


def safe(path: Path, state, meta=None) -> Path:
    save_file({k: v.contiguous() for k, v in state.items()}, path, metadata=meta)
    return path


def saved(path: Path, content, **kw) -> Path:
    torch.save(content, path, **kw)
    return path


def refused(path, message, load=load_denoiser):
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    text = str(caught.value)
    assert Path(path).name in text and len(text) < 700 and "weights_only" not in text
    return text


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def read_checkpoint(path):
    """Family and weights of a file, as the network has them."""
    net, info = load_network(path)
    return info["family"], net.state_dict()
