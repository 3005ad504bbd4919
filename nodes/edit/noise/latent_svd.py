"""Edit: singular vectors of a noisy latent, scaled or mixed with those of another."""

import torch

from ....core.edit.noise.latent_svd import mixed, plot_spectra, scaled
from ....core.foreign import shown
from ....core.measure.plots import loss_plot
from ....core.schedule import from_vp, to_vp
from ....core.train.latent_svd import MixSettings, Weights, fit_mix
from ...dials import count_input, rate_input, seed_input, share_input, signed_input, weight_input
from ...host.api import Node, io, ui
from ...host.model.latents import latents_in, latents_out
from ...host.model.traits import is_flow
from ...host.progress import reporter
from ...host.training import gradients

_MODEL = "The model that the latent belongs to. It tells the scale of its latents."
_SIGMAS = "The steps that the latent has still to go (low_sigmas of Split Sigmas). The first tells its noise level. Without them the latent counts as clean."


def _sigma(sigmas) -> float:
    return 0.0 if sigmas is None or not len(sigmas) else float(sigmas[0])


def _vp(model, latent: dict, sigmas, name: str) -> torch.Tensor:
    """The VP state of a LATENT in the middle of sampling, float32 on the CPU."""
    if is_flow(model):
        raise ValueError(
            f"{name} is taken as x0 + sigma n, which a flow model does not know; connect Stable Diffusion 1.x, 2.x or SDXL"
        )
    samples = latent["samples"]
    if not isinstance(samples, torch.Tensor) or samples.dim() != 4:
        raise ValueError(
            f"{name} must be a LATENT of pictures [b c h w], got {shown(samples)}; latents of videos or audio have no such SVD"
        )
    return to_vp(latents_in(model, samples.float().cpu()), _sigma(sigmas))


def _latent(model, y: torch.Tensor, sigmas, latent: dict) -> dict:
    return {**latent, "samples": latents_out(model, from_vp(y, _sigma(sigmas)))}


class HSpaceLatentSVD(Node):
    """Shows and scales singular vectors of a latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLatentSVD",
            display_name="Latent SVD",
            category="HSpace/edit/noise",
            description="Decomposes every channel of a latent in the middle of sampling into singular vectors. Scale some of them, sample on, and see which attribute they carry.",
            search_aliases=["singular value decomposition", "attribute vector", "spectrum", "scale singular vector"],
            inputs=[
                io.Model.Input("model", tooltip=_MODEL),
                io.Latent.Input(
                    "latent",
                    tooltip="The latent of a stock sampler that stopped early: KSampler (Advanced) with leftover noise, or SamplerCustomAdvanced with high_sigmas of Split Sigmas.",
                ),
                count_input("first", 1, "The number of the first vector. 1 is the largest.", most=4096),
                count_input("count", 1, "The number of vectors.", most=4096),
                signed_input(
                    "factor",
                    1.5,
                    10.0,
                    "The singular values of the chosen vectors are multiplied by this. 1 changes nothing.",
                ),
                signed_input(
                    "others",
                    1.0,
                    10.0,
                    "All other singular values are multiplied by this. 0 leaves only the chosen vectors.",
                    advanced=True,
                ),
                io.Sigmas.Input("sigmas", optional=True, tooltip=_SIGMAS),
            ],
            outputs=[
                io.Latent.Output(display_name="latent"),
                io.Image.Output(display_name="spectrum", tooltip="The spectrum of the first picture, in VP scale."),
            ],
        )

    @classmethod
    def execute(cls, model, latent, first, count, factor, others=1.0, sigmas=None) -> io.NodeOutput:
        x = _vp(model, latent, sigmas, "latent")
        y = scaled(x, first, count, factor, others)
        picture = plot_spectra({"before": x, "after": y})
        return io.NodeOutput(
            latent if y is x else _latent(model, y, sigmas, latent), picture, ui=ui.PreviewImage(picture, cls=cls)
        )


_SOURCE = (
    io.Model.Input("model", tooltip=_MODEL),
    io.Latent.Input(
        "source",
        tooltip="The picture to edit in the middle of sampling, under its own prompt (the paper stops when 0.7 of the steps are left).",
    ),
    io.Latent.Input(
        "target",
        tooltip="The latent from the same noise under the target prompt, stopped a little later (by 0.05 to 0.1 of all steps).",
    ),
    io.Sigmas.Input("source_sigmas", optional=True, tooltip=_SIGMAS),
    io.Sigmas.Input("target_sigmas", optional=True, tooltip=_SIGMAS),
)


class HSpaceMixLatentSVD(Node):
    """Mixes the singular vectors of two latents without training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceMixLatentSVD",
            display_name="Mix Latent SVD",
            category="HSpace/edit/noise",
            description="Fades the leading singular vectors of one noisy latent into those of another, without training. Sample on with the source's prompt.",
            search_aliases=["attribute vector integration", "singular value decomposition", "blend latents", "avi"],
            inputs=[
                *_SOURCE,
                count_input(
                    "leading",
                    8,
                    "The number of leading vectors of each channel that are exchanged. 8 is a good start.",
                    most=4096,
                ),
                share_input(
                    "gain", 0.5, "0 is the source, bit for bit; 1 takes the leading vectors of the target alone."
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latent is at the noise level of the source.")
            ],
        )

    @classmethod
    def execute(cls, model, source, target, leading, gain, source_sigmas=None, target_sigmas=None) -> io.NodeOutput:
        x, z = _vp(model, source, source_sigmas, "source"), _vp(model, target, target_sigmas, "target")
        y = mixed(x, z, leading, gain)
        return io.NodeOutput(source if y is x else _latent(model, y, source_sigmas, source))


_WEIGHTS = (
    weight_input(
        "target_weight",
        1.0,
        "The weight of showing the target's vectors at the target's strength. Without it no attribute comes.",
    ),
    weight_input("source_weight", 1.0, "The weight of staying near the source. Without it identity is lost."),
    weight_input("hold_target", 1.0, "The weight of holding the target's values. Without it colours saturate."),
    weight_input("hold_source", 1.0, "The weight of holding the source's values. Without it quality drops."),
)
"""What the losses of the fit weigh."""


class HSpaceFitLatentSVD(Node):
    """Mixes the singular vectors of two latents with values that a small network learns."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceFitLatentSVD",
            display_name="Fit Latent SVD Mix",
            category="HSpace/edit/noise",
            description="Integrates attribute vectors: the node adds up leading singular vectors of two noisy latents, with values that a small network learns in seconds to keep the source and to show the target. Sample on with the source's prompt.",
            search_aliases=["attribute vector integration", "avi", "singular value decomposition", "mlp"],
            inputs=[
                *_SOURCE,
                count_input(
                    "source_vectors",
                    0,
                    "The number of leading vectors of the source. 0 takes all except the number that the target gives.",
                    least=0,
                    most=4096,
                ),
                count_input("target_vectors", 8, "The number of leading vectors of the target.", most=4096),
                count_input("steps", 500, "The number of optimiser steps, 300 to 1000.", most=100_000),
                share_input(
                    "strength",
                    1.0,
                    "How far to go on the straight way from the source (0, bit for bit) to the result (1).",
                ),
                *_WEIGHTS,
                rate_input(0.001, "The learning rate of Adam.", least=1e-6, advanced=True),
                seed_input("The seed of the network.", advanced=True),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latent is at the noise level of the source."),
                io.Image.Output(display_name="loss"),
                io.Image.Output(
                    display_name="spectrum",
                    tooltip="The spectra of source, target and result, of the first picture in VP scale.",
                ),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        source,
        target,
        source_vectors,
        target_vectors,
        steps,
        strength,
        source_sigmas=None,
        target_sigmas=None,
        target_weight=1.0,
        source_weight=1.0,
        hold_target=1.0,
        hold_source=1.0,
        lr=0.001,
        seed=0,
    ) -> io.NodeOutput:
        x, z = _vp(model, source, source_sigmas, "source"), _vp(model, target, target_sigmas, "target")
        weights = Weights(target_weight, source_weight, hold_target, hold_source)
        settings = MixSettings(source_vectors, target_vectors, weights, steps, lr, seed)
        with gradients():
            mix = fit_mix(x, z, reporter(model, steps, preview=False), settings)
        curve = loss_plot(mix.losses, steps, "latent SVD mix")
        spectra = plot_spectra({"source": x, "target": z, "result": mix.result})
        latent = source if strength == 0 else _latent(model, mix.at(strength), source_sigmas, source)
        return io.NodeOutput(latent, curve, spectra, mix.text, ui=ui.PreviewImage(curve, cls=cls))


NODES = [HSpaceLatentSVD, HSpaceMixLatentSVD, HSpaceFitLatentSVD]
