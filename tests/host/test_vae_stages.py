"""An autoencoder is taken apart only where the parts are all that it does: what others put on the whole of it acts."""

import pytest
import torch

PUT_ON = {
    "decode": lambda vae: setattr(vae, "decode", _raised(vae.decode)),
    "forward": lambda vae: setattr(vae.decoder, "forward", _raised(vae.decoder.forward)),
    "hook": lambda vae: vae.decoder.register_forward_hook(lambda _, args, out: out + 1),
    "pre-hook": lambda vae: vae.decoder.register_forward_pre_hook(lambda _, args: (args[0] + 1,)),
}


def _raised(function):
    return lambda *args, **more: function(*args, **more) + 1


@pytest.fixture
def autoencoder(executor):
    (vae,) = executor.call("HSpaceTestVAE", network="kl")
    return vae.first_stage_model


def picture(stages, z):
    for stage in stages:
        z = stage(z)
    return z


def test_the_stages_are_the_decoder(executor, autoencoder):
    stages = executor.module("nodes.host.model.vae_stages").vae_stages(autoencoder)
    z = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert len(stages) > 3 and torch.equal(picture(stages, z), autoencoder.decode(z))


@pytest.mark.parametrize("name", PUT_ON)
def test_what_others_put_on_the_whole_of_it_acts(executor, autoencoder, name):
    vae_stages = executor.module("nodes.host.model.vae_stages").vae_stages
    z = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        before = picture(vae_stages(autoencoder), z)
        PUT_ON[name](autoencoder)
        after = picture(vae_stages(autoencoder), z)
        assert torch.equal(after, autoencoder.decode(z)) and not torch.allclose(after, before)
