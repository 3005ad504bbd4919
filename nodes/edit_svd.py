"""Edit: singular vectors of a noisy latent, scaled or mixed with those of another."""

import math

import torch

from ..core.discover.latent_svd import Svd, Weights, fit_values, mixed, scaled
from ..core.plots import lines_plot, loss_plot
from .host.api import io, ui
from .host.denoiser import is_flow
from .host.progress import reporter
from .host.training import gradients

_MODEL = "The model that the latent belongs to: for the scale of its latents."
_SIGMAS = (
    "The steps that the latent has still to go (low_sigmas of Split Sigmas): the first tells its noise level. Without: a clean latent."
)
_LABELS = 8


def _sigma(sigmas) -> float:
    return 0.0 if sigmas is None or not len(sigmas) else float(sigmas[0])


def _vp(model, latent: dict, sigmas) -> torch.Tensor:
    """The VP state of a LATENT in the middle of sampling, float32 on the CPU."""
    if is_flow(model):
        raise ValueError(
            "these latents are taken as x0 + sigma n, which a flow model does not know; connect Stable Diffusion 1.x, 2.x or SDXL"
        )
    samples = latent["samples"]
    if not isinstance(samples, torch.Tensor) or samples.dim() != 4:
        raise ValueError("this node takes latents of pictures [b c h w]; latents of videos or audio have no such SVD")
    return model.model.process_latent_in(samples.float().cpu()) / math.sqrt(1 + _sigma(sigmas) ** 2)


def _latent(model, y: torch.Tensor, sigmas, like: dict) -> dict:
    return {**like, "samples": model.model.process_latent_out(y * math.sqrt(1 + _sigma(sigmas) ** 2))}


def _spectrum(parts: dict[str, torch.Tensor], kept: int = 4) -> torch.Tensor:
    """Singular values `[c r]` of the first picture, a panel a channel, as IMAGE."""
    rank = next(iter(parts.values())).shape[-1]
    every = -(-rank // _LABELS)
    names = [str(i + 1) if i % every == 0 else "" for i in range(rank)]
    channels = min(next(iter(parts.values())).shape[0], kept)
    panels = {f"singular values, channel {c + 1}": {name: s[c].tolist() for name, s in parts.items()} for c in range(channels)}
    return lines_plot(names, panels, "number")


class HSpaceLatentSVD(io.ComfyNode):
    """Look at, and scale, singular vectors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLatentSVD",
            display_name="Latent SVD",
            category="HSpace/edit",
            description="Singular value decomposition of every channel of a latent in the middle of sampling. Scale some of its vectors, sample on, and see which attribute they carry.",
            search_aliases=["singular value decomposition", "attribute vector", "spectrum", "scale singular vector"],
            inputs=[
                io.Model.Input("model", tooltip=_MODEL),
                io.Latent.Input("latent", tooltip="From a stock sampler that stopped early: KSampler (Advanced) with leftover noise, or SamplerCustomAdvanced with high_sigmas of Split Sigmas."),
                io.Int.Input("first", default=1, min=1, max=4096, tooltip="Number of the first vector, 1 is the largest."),
                io.Int.Input("count", default=1, min=1, max=4096, tooltip="How many vectors."),
                io.Float.Input("factor", default=1.5, min=-10.0, max=10.0, step=0.05, tooltip="Their values are multiplied by this; 1 changes nothing."),
                io.Float.Input("others", default=1.0, min=-10.0, max=10.0, step=0.05, advanced=True, optional=True, tooltip="All other values are multiplied by this. 0 leaves the chosen vectors alone."),
                io.Sigmas.Input("sigmas", optional=True, tooltip=_SIGMAS),
            ],
            outputs=[io.Latent.Output(display_name="latent"), io.Image.Output(display_name="spectrum", tooltip="Of the first picture, in VP scale.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, latent, first, count, factor, others=1.0, sigmas=None) -> io.NodeOutput:
        """Scale."""
        x = _vp(model, latent, sigmas)
        y = scaled(x, first, count, factor, others)
        picture = _spectrum({"before": Svd.of(x[:1]).s[0], "after": Svd.of(y[:1]).s[0]})
        return io.NodeOutput(latent if y is x else _latent(model, y, sigmas, latent), picture, ui=ui.PreviewImage(picture, cls=cls))


_SOURCE = (
    io.Model.Input("model", tooltip=_MODEL),
    io.Latent.Input("source", tooltip="The picture to edit in the middle of sampling, under its own prompt (the paper stops at 0.7 of the steps left)."),
    io.Latent.Input("target", tooltip="From the same noise under the target prompt, stopped a little later (0.05 to 0.1 of the steps)."),
    io.Sigmas.Input("source_sigmas", optional=True, tooltip=_SIGMAS),
    io.Sigmas.Input("target_sigmas", optional=True, tooltip=_SIGMAS),
)  # fmt: skip


class HSpaceMixLatentSVD(io.ComfyNode):
    """Training-free."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceMixLatentSVD",
            display_name="Mix Latent SVD",
            category="HSpace/edit",
            description="Fades the leading singular vectors of one noisy latent into those of another. Sample on with the source's prompt. No training.",
            search_aliases=["attribute vector integration", "singular value decomposition", "blend latents", "avi"],
            inputs=[
                *_SOURCE,
                io.Int.Input("leading", default=8, min=1, max=4096, tooltip="How many leading vectors of each channel are exchanged. 8 is a good start."),
                io.Float.Input("gain", default=0.5, min=0.0, max=1.0, step=0.05, tooltip="0 is the source, bit for bit; 1 takes the leading vectors of the target alone."),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="At the noise level of the source.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, source, target, leading, gain, source_sigmas=None, target_sigmas=None) -> io.NodeOutput:
        """Mix."""
        x, z = _vp(model, source, source_sigmas), _vp(model, target, target_sigmas)
        y = mixed(x, z, leading, gain)
        return io.NodeOutput(source if y is x else _latent(model, y, source_sigmas, source))


class HSpaceFitLatentSVD(io.ComfyNode):
    """With a trained network."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceFitLatentSVD",
            display_name="Fit Latent SVD Mix",
            category="HSpace/edit",
            description="Attribute vector integration: adds up leading singular vectors of two noisy latents, with values that a small network learns in seconds to keep the source and to show the target. Sample on with the source's prompt.",
            search_aliases=["attribute vector integration", "avi", "singular value decomposition", "mlp"],
            inputs=[
                *_SOURCE,
                io.Int.Input("source_vectors", default=0, min=0, max=4096, tooltip="Leading vectors of the source. 0: all but as many as the target gives."),
                io.Int.Input("target_vectors", default=8, min=1, max=4096, tooltip="Leading vectors of the target."),
                io.Int.Input("steps", default=500, min=1, max=100_000, tooltip="Of the optimiser; 300 to 1000."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05, tooltip="Straight way from the source (0, bit for bit) to the result (1)."),
                io.Float.Input("target_weight", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Show the target's vectors at the target's strength. Without it no attribute comes."),
                io.Float.Input("source_weight", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Stay near the source. Without it identity is lost."),
                io.Float.Input("hold_target", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Hold on to the target's values. Without it colours saturate."),
                io.Float.Input("hold_source", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Hold on to the source's values. Without it quality drops."),
                io.Float.Input("lr", default=0.001, min=1e-6, max=1.0, step=1e-4, round=1e-6, advanced=True, optional=True, tooltip="Learning rate of Adam."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip="Of the network."),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="At the noise level of the source."),
                io.Image.Output(display_name="loss"),
                io.Image.Output(display_name="spectrum", tooltip="Of source, target and result; of the first picture, in VP scale."),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, source, target, source_vectors, target_vectors, steps, strength, source_sigmas=None, target_sigmas=None, target_weight=1.0,
        source_weight=1.0, hold_target=1.0, hold_source=1.0, lr=0.001, seed=0,
    ) -> io.NodeOutput:  # fmt: skip
        """Train and apply."""
        x, z = _vp(model, source, source_sigmas), _vp(model, target, target_sigmas)
        losses, bar = [], reporter(model, steps, preview=False)

        def report(state: dict) -> None:
            losses.append(state["loss"])
            bar(state)

        weights = Weights(target_weight, source_weight, hold_target, hold_source)
        with gradients():
            y = fit_values(
                x.clone(),
                z.clone(),
                k_x=source_vectors,
                k_z=target_vectors,
                weights=weights,
                steps=steps,
                lr=lr,
                seed=seed,
                callback=report,
            )
        curve = loss_plot(losses, steps, "latent SVD mix")
        picture = _spectrum({"source": Svd.of(x[:1]).s[0], "target": Svd.of(z[:1]).s[0], "result": Svd.of(y[:1]).s[0]})
        text = f"loss {losses[0]:.4f} > {losses[-1]:.4f} in {steps} steps; result {float((y - x).norm() / x.norm()):.0%} of its length from the source"
        made = source if strength == 0 else _latent(model, torch.lerp(x, y, strength), source_sigmas, source)
        return io.NodeOutput(made, curve, picture, text, ui=ui.PreviewImage(curve, cls=cls))


NODES = [HSpaceLatentSVD, HSpaceMixLatentSVD, HSpaceFitLatentSVD]
