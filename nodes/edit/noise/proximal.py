"""Edit: guidance only where the two prompts differ (ProxEdit, arXiv 2306.05414)."""

from ....core.edit.noise.proximal import MODES, OLD_NAMES
from ....core.payload import trajectory_from_payload
from ...dials import count_input, share_input, sigma_input
from ...host.api import Node, Trajectory, io
from ...host.patches.proximal import add_proximal
from ...unused import refuse_unused


class HSpaceProximalCFG(Node):
    """Limits guidance to where the prompts differ most (proximal guidance)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceProximalCFG",
            display_name="Proximal CFG",
            category="HSpace/edit/noise",
            description="Lets guidance act only where positive and negative differ most, so that the rest of an inverted picture stays. Feed the source prompt as negative. The result is a patched MODEL for any sampler.",
            search_aliases=["proxnpi", "proxedit", "negative prompt inversion", "npi", "guidance threshold"],
            inputs=[
                io.Model.Input("model", tooltip="The model is any that is sampled with cfg above 1."),
                io.Combo.Input(
                    "mode",
                    options=[*MODES, *OLD_NAMES],
                    tooltip="hard drops small differences and keeps large ones (the paper's l0). soft also shrinks the large ones (what the released code calls l0). The options l0 and l1 are old names of hard and soft, for saved workflows.",
                ),
                share_input(
                    "quantile",
                    0.7,
                    "The share of the values of each picture of a batch that counts as small. 0 is plain guidance, and the paper uses 0.7.",
                    step=0.01,
                ),
                Trajectory.Input(
                    "trajectory",
                    optional=True,
                    tooltip="The trajectory comes from Invert Image. What hardly differs is then drawn back to the source in the last steps.",
                ),
                sigma_input(
                    "sigma_guide",
                    0.0,
                    "It is drawn back at or below this noise level. 0 takes t = 400.",
                    advanced=True,
                ),
                share_input("rate", 1.0, "How firmly it is drawn back. 1 puts the source there.", advanced=True),
                count_input(
                    "dilate", 1, "Widens what may change by so many pixels of the latent.", least=0, advanced=True
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, mode, quantile, trajectory=None, sigma_guide=0.0, rate=1.0, dilate=1) -> io.NodeOutput:
        if trajectory is None:
            why = "draws back to the trajectory of the source, and none is connected"
            refuse_unused(cls, why, sigma_guide=sigma_guide, rate=rate, dilate=dilate)
        elif not rate:
            refuse_unused(
                cls, "belongs to drawing back to the source, and rate is 0", sigma_guide=sigma_guide, dilate=dilate
            )
        if not quantile:
            refuse_unused(cls, "says what becomes of small differences, and at quantile 0 none is small", mode=mode)
        trajectory = None if trajectory is None else trajectory_from_payload(trajectory)
        return io.NodeOutput(add_proximal(model, quantile, mode, trajectory, sigma_guide, rate, dilate))


NODES = [HSpaceProximalCFG]
