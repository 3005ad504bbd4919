"""Train: a LoRA of one picture, fitted to the attention layers of a frozen MODEL inside the graph."""

from pathlib import Path

from ..core.edit.low_rank import LowRankLayers, beside
from ..core.networks.vp import state_fingerprint
from ..core.own_file import write_own
from ..core.train.image_lora import attention_layers, fit_image_lora
from ..core.train.memory import needed
from .dials import VAE
from .host import paths
from .host.api import LoraModel, io, ui
from .host.denoiser import Prompts, check_network
from .host.fingerprint import model_fingerprint
from .host.lora import lora_model, posterior, with_fused_attention
from .host.model import is_velocity
from .host.training import Run, ordinary, with_training


class HSpaceFitImageLora(io.ComfyNode):
    """A LoRA of one picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceFitImageLora",
            display_name="Fit Image LoRA",
            category="HSpace/train",
            description="Fits a small LoRA to one picture, so that the model keeps its look (DiffMorpher's first stage): attention layers only, the plain noise loss. Gives a stock LORA_MODEL for Load LoRA Model, Save LoRA Weights and Morph Frames. A cancelled run goes on when it is queued again.",
            search_aliases=["diffmorpher", "image lora", "one shot lora", "overfit", "train lora"],
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 1.x, 2.x, SDXL or Load Face Text Model; it stays as it is."),
                io.Image.Input("image", tooltip="One picture, at the size that it will be inverted at."),
                io.Conditioning.Input("positive", tooltip="What the picture shows. Invert the picture with the same prompt."),
                io.Int.Input("steps", default=200, min=1, max=100_000, tooltip="Of the optimiser, one picture each. 200 is the paper's."),
                io.Int.Input("rank", default=16, min=1, max=512, tooltip="Of the matrices; 16 is the paper's. Both pictures of a morph need one rank for mode factors."),
                io.Float.Input("lr", default=0.0002, min=1e-7, max=1.0, step=1e-5, round=1e-7, tooltip="Learning rate: 2e-4 for Stable Diffusion, 1e-3 for the face model."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False, tooltip="Of the start, the levels and the noise. Give both pictures of a morph the same."),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
            ],
            outputs=[
                LoraModel.Output(display_name="lora"),
                io.Image.Output(display_name="loss"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, image, positive, steps, rank, lr, seed, vae=None) -> io.NodeOutput:
        """Train."""
        check_network(model)
        layers = attention_layers(model.model.diffusion_model)
        if len(image) != 1:
            raise ValueError(f"a LoRA is fitted to one picture, got a batch of {len(image)}; pick one, or use one node for each")
        x0, sample, sampled = posterior(model, vae, image)
        x0, facts = ordinary(x0), {"kind": "image lora", "steps": steps, "rank": rank, "lr": lr, "seed": seed}
        prompt = state_fingerprint({str(i): part[0] for i, part in enumerate(positive)})
        base = model_fingerprint(model)

        def work(denoiser):
            velocity, sigmas = is_velocity(model), model.get_model_object("model_sampling").sigmas
            lora = LowRankLayers(layers, rank, seed).to(x0.device)

            def once():
                sigma = float(sigmas[len(sigmas) // 2])
                return denoiser(x0, x0.new_full((1,), sigma)).sum()

            def keep(best) -> Path:
                return write_own(run.kept(paths.TUNED), lora_model(lora.pairs(best), {}), {"format": "lora", "version": 1, **facts})

            run.keep = keep
            net = denoiser.patcher.model.diffusion_model
            with beside(net, lora.branches()):
                run.check_memory(needed(once, 1, lora, [net]))
            return fit_image_lora(
                denoiser, net, lora, lambda g: ordinary(sample(g)), x0.shape, sigmas, steps=steps, lr=lr, velocity=velocity, seed=seed,
                callback=run.step, begin=run.begin,
            ).pairs()  # fmt: skip

        with Run(model, "image LoRA", x0, {**facts, "method": "image lora", "prompt": prompt}) as run:
            found = with_training(with_fused_attention(model), x0.shape, Prompts(positive), work)
        weights = sum(up.numel() + down.numel() for up, down in found.values())
        drawn = "the VAE's posterior is drawn anew at every step" if sampled else "the same clean state at every step"
        curve, text = run.summary(f"; {len(found)} layers, {weights:,} weights; {drawn}")
        return io.NodeOutput(lora_model(found, {"fingerprint": base, "label": "image LoRA", "extra": facts}), curve, text, ui=ui.PreviewImage(curve, cls=cls))  # fmt: skip


NODES = [HSpaceFitImageLora]
