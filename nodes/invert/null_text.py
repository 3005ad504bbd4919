"""Invert with prompts: negatives that undo the drift of guidance, and guidance that leaves the rest of the picture
alone.
"""

from ...core.invert.null_text import RATE, STEPS, TOLERANCE, NullTextSettings
from ...core.payload import trajectory_from_payload
from ..dials import count_input
from ..host.api import Node, Trajectory, io
from ..host.model.fingerprint import model_fingerprint
from ..host.patches.null_text import null_text
from ..host.progress import reporter
from ..host.prompt_checks import check_prompt
from ..unused import refuse_unused


class HSpaceNullTextOptimise(Node):
    """Fits a negative prompt for each step (null-text inversion)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceNullTextOptimise",
            display_name="Null-Text Optimise",
            category="HSpace/invert",
            description="Fits the negative prompt of every step so that sampling with guidance gives the inverted picture back. Then change the positive prompt. The result is a stock CONDITIONING for CFGGuider or KSampler.",
            search_aliases=[
                "null text inversion",
                "null-text",
                "unconditional embedding",
                "prompt-to-prompt real image",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL that the picture was inverted with. It has a U-Net and takes prompts (Stable Diffusion 1.x, 2.x, SDXL, Load Face Text Model).",
                ),
                Trajectory.Input(
                    "trajectory",
                    tooltip="The trajectory of one picture, from Invert Image with method fixed point (or ddim B, as the paper), cfg 1 and the source prompt as positive.",
                ),
                io.Conditioning.Input("positive", tooltip="The source prompt, as in Invert Image."),
                io.Conditioning.Input(
                    "negative", tooltip="The negative to begin with, from CLIP Text Encode with an empty text."
                ),
                io.Float.Input(
                    "cfg",
                    default=7.5,
                    min=1.0,
                    max=30.0,
                    step=0.1,
                    tooltip="The guidance of the edit. Sample with the same. The paper uses 7.5.",
                ),
                count_input(
                    "inner_steps",
                    STEPS,
                    "The largest number of updates a step. Each costs a forward and a backward pass. The paper uses 10.",
                    least=0,
                    most=500,
                ),
                io.Float.Input(
                    "rate",
                    default=RATE,
                    min=0.0001,
                    max=1.0,
                    step=0.001,
                    round=0.0001,
                    advanced=True,
                    optional=True,
                    tooltip="The learning rate at the noisiest step. It falls to half.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=TOLERANCE,
                    min=0.0,
                    max=1.0,
                    step=0.00001,
                    round=0.000001,
                    advanced=True,
                    optional=True,
                    tooltip="A step is good enough at this mean squared error. 0 uses all inner steps.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="The CONDITIONING has one entry for each step. Sample with the SIGMAS of the trajectory.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="The report says how far from the picture sampling ends, with these and with the plain negative.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, trajectory, positive, negative, cfg, inner_steps, rate=RATE, tolerance=TOLERANCE
    ) -> io.NodeOutput:
        if not inner_steps:
            refuse_unused(cls, "belongs to the optimisation, and inner_steps is 0", rate=rate, tolerance=tolerance)
        trajectory = trajectory_from_payload(trajectory)
        trajectory.check_model(model_fingerprint(model))
        if trajectory.states.shape[1] != 1:
            raise ValueError(
                f"the trajectory holds {trajectory.states.shape[1]} pictures, but embeddings of several cannot follow the rows of Pair Latent or of a "
                "batch of edits; invert and fit one picture at a time"
            )
        check_prompt(model, positive, "positive")
        check_prompt(model, negative, "negative")
        used = (trajectory.prompts or {}).get("cfg", 1.0)
        if used != 1:
            raise ValueError(
                f"the trajectory was inverted at cfg {used:g}; null-text optimisation needs cfg 1 there and guides afterwards"
            )
        n = len(trajectory.sigmas) - 1
        report = reporter(model, n * (inner_steps + 2))
        settings = NullTextSettings(inner_steps, rate, tolerance)
        entries, *ends = null_text(model, trajectory, positive, negative, cfg, settings, report)
        fitted, plain = (float((end.image.cpu() - trajectory.x0).square().mean().sqrt()) for end in ends)
        return io.NodeOutput(
            entries,
            f"{n} embeddings; sampling at cfg {cfg:g} ends {fitted:.4f} (rms) from the picture, {plain:.4f} with the plain negative",
        )


NODES = [HSpaceNullTextOptimise]
