"""Train: a LoRA of one picture, fitted to the attention layers of a frozen MODEL inside the graph."""

from torch import Tensor

from ...core.networks.low_rank import LowRankLayers, beside
from ...core.networks.vp import state_fingerprint
from ...core.own_file import write_own
from ...core.train.image_lora import ImageLoraSettings, attention_layers, predict_middle, train_image_lora
from ...core.train.memory import needed
from ..dials import count_input, fit_input, rate_input, seed_input, vae_input
from ..host import paths
from ..host.api import LoraModel, Node, io
from ..host.model.fingerprint import model_fingerprint
from ..host.model.lora import lora_model, posterior, with_fused_attention
from ..host.model.pixel_model import is_velocity
from ..host.model.prompts import Prompts
from ..host.model.size import CROP, fit_to_model
from ..host.model.traits import check_unet
from ..host.prompt_checks import check_prompt
from ..host.training import NodeSession, ordinary, with_training
from . import schema


class HSpaceFitImageLora(Node):
    """A LoRA of one picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceFitImageLora",
            display_name="Fit Image LoRA",
            category="HSpace/train",
            description="Fits a small LoRA to one picture, so that the model keeps its look (DiffMorpher's first stage). It fits attention layers only, by the plain noise loss. The node gives a stock LORA_MODEL for Load LoRA Model, Save LoRA Weights and Morph Frames. A cancelled run goes on when it is queued again.",
            search_aliases=["diffmorpher", "image lora", "one shot lora", "overfit", "train lora"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model is Stable Diffusion 1.x, 2.x, SDXL or Load Face Text Model. It stays as it is.",
                ),
                io.Image.Input("image", tooltip="One picture, at the size that it will be inverted at."),
                io.Conditioning.Input(
                    "positive", tooltip="What the picture shows. Invert the picture with the same prompt."
                ),
                count_input(
                    "steps", 200, "The number of optimiser steps, one picture each. 200 is the paper's.", most=100_000
                ),
                count_input(
                    "rank",
                    16,
                    "The rank of the matrices. 16 is the paper's. Both pictures of a morph need one rank for mode factors.",
                    most=512,
                ),
                rate_input(
                    0.0002, "The learning rate. Take 2e-4 for Stable Diffusion and 1e-3 for the face model.", step=1e-5
                ),
                seed_input("The seed of the start, the levels and the noise. Give both pictures of a morph the same."),
                vae_input(),
                fit_input(),
            ],
            outputs=schema.outputs(LoraModel.Output(display_name="lora")),
        )

    @classmethod
    def execute(cls, model, image, positive, steps, rank, lr, seed, vae=None, fit=CROP) -> io.NodeOutput:
        check_unet(model)
        check_prompt(model, positive, "positive")
        layers = attention_layers(model.model.diffusion_model)
        if len(image) != 1:
            raise ValueError(
                f"a LoRA is fitted to one picture, got {len(image)} as image; pick one, or use one node for each"
            )
        image, _ = fit_to_model(model, image, fit)
        x0, sample, sampled = posterior(model, vae, image)
        x0, facts = ordinary(x0), {"kind": "image lora", "steps": steps, "rank": rank, "lr": lr, "seed": seed}
        prompt = state_fingerprint({str(i): part[0] for i, part in enumerate(positive)})
        base = model_fingerprint(model)
        settings = ImageLoraSettings(steps, lr, is_velocity(model), seed)

        def work(denoiser):
            lora = LowRankLayers(layers, rank, seed).to(x0.device)

            def write_best(best):
                path = session.unfinished_path(paths.TUNED)
                return write_own(path, lora_model(lora.pairs(best), {}), {"format": "lora", "version": 1, **facts})

            session.write_best = write_best
            return _train(denoiser, lora, x0, lambda generator: ordinary(sample(generator)), settings, session)

        told = {**facts, "method": "image lora", "prompt": prompt}
        with NodeSession(model, "image LoRA", x0, told) as session:
            pairs = with_training(with_fused_attention(model), x0.shape, Prompts(positive), work)
        weights = sum(up.numel() + down.numel() for up, down in pairs.values())
        drawn = "the VAE's posterior is drawn anew at every step" if sampled else "the same clean state at every step"
        lora = lora_model(pairs, {"fingerprint": base, "label": "image LoRA", "extra": facts})
        return schema.training_output(cls, lora, session, f"; {len(pairs)} layers, {weights:,} weights; {drawn}")


def _train(denoiser, lora: LowRankLayers, x0: Tensor, draw, settings: ImageLoraSettings, session: NodeSession):
    net = denoiser.patcher.model.diffusion_model
    levels = denoiser.patcher.get_model_object("model_sampling").sigmas
    with beside(net, lora.branches()):
        session.check_memory(needed(lambda: predict_middle(denoiser, x0, levels).sum(), 1, lora, [net]))
    return train_image_lora(denoiser, net, lora, draw, x0.shape, levels, settings, session=session).pairs()


NODES = [HSpaceFitImageLora]
