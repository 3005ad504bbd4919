"""Edit: fresh noise for what a semantic code does not hold."""

from ....core.edit.codes.pada import varied_noise
from ...dials import count_input, seed_input, share_input
from ...host.api import Node, io
from ...seeds import ONE_BY_ONE


class HSpaceVaryNoise(Node):
    """Varies what the code does not hold."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceVaryNoise",
            display_name="Vary Noise",
            category="HSpace/edit/codes",
            description="Mixes fresh noise into the noise latent of a picture. Fine detail varies, while the code keeps what the picture shows. The node also repeats the latent for a batch of codes.",
            search_aliases=["low-level diversity", "x_T", "noise mix", "variation", "pada"],
            inputs=[
                io.Latent.Input("noise", tooltip="The noise latent of Invert Image."),
                share_input(
                    "amount",
                    0.0,
                    "The share of fresh noise: sqrt(1 - amount^2) times the latent plus amount times fresh noise. 0 is the latent bit for bit. Up to 0.6 keeps the picture's likeness.",
                ),
                count_input("variants", 4, "The number of variants of every picture, in the order of PADA Age."),
                seed_input(
                    f"The seed of the variants' fresh noise, which is the same draws for every picture of a batch. {ONE_BY_ONE}"
                ),
            ],
            outputs=[io.Latent.Output(display_name="noise")],
        )

    @classmethod
    def execute(cls, noise, amount, variants, seed) -> io.NodeOutput:
        rest = {k: v for k, v in noise.items() if k not in ("samples", "batch_index", "noise_mask")}
        return io.NodeOutput({**rest, "samples": varied_noise(noise["samples"], amount, variants, seed)})


NODES = [HSpaceVaryNoise]
