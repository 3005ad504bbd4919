"""Edit: new semantic codes from the latent network."""

import torch

from ....core.edit.codes.sample import sample_codes
from ....core.noise import drawn_rows
from ...dials import count_input, seed_input
from ...host.api import Node, io
from ...host.model.coded_model import check_coded
from ...host.model.codes import codes_to_conditioning
from ...host.progress import reporter
from ...seeds import ONE_BY_ONE


class HSpaceSampleCodes(Node):
    """Draws new codes from the latent network."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSampleCodes",
            display_name="Sample Codes",
            category="HSpace/edit/codes",
            description="Draws new codes from the model's latent network. Sampled with fresh noise they are pictures of nobody.",
            search_aliases=["diffae unconditional", "latent diffusion of codes", "random person"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model comes from Load Face DiffAE, or from Load DiffAE with a checkpoint that has a latent network (..._latent).",
                ),
                count_input("count", 4, "The number of codes.", most=256),
                seed_input(f"The seed of the new codes. {ONE_BY_ONE}"),
                count_input(
                    "steps", 200, "The number of steps of the latent network.", least=2, most=1000, advanced=True
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="codes")],
        )

    @classmethod
    def execute(cls, model, count, seed, steps=200) -> io.NodeOutput:
        net = check_coded(model)
        noise = drawn_rows(count, (net.space.size,), torch.Generator().manual_seed(seed))
        latent = None if net.latent is None else net.latent.to(noise.device)
        report = reporter(model, None, preview=False)
        return io.NodeOutput(codes_to_conditioning(sample_codes(latent, net.space, noise, steps, report), net.space))


NODES = [HSpaceSampleCodes]
