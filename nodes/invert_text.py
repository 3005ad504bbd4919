"""Invert with prompts: negatives that undo the drift of guidance, and guidance that leaves the rest of the picture alone."""

from ..core.edit.proximal import MODES
from ..core.invert.null_text import RATE, STEPS, TOLERANCE
from ..core.payload import trajectory_from_payload
from .host.api import Trajectory, io
from .host.fingerprint import model_fingerprint
from .host.null_text import null_text
from .host.progress import reporter
from .host.proximal import add_proximal


class HSpaceNullTextOptimise(io.ComfyNode):
    """A negative prompt for each step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceNullTextOptimise",
            display_name="Null-Text Optimise",
            category="HSpace/invert",
            description="Fits the negative prompt of every step so that sampling with guidance gives the inverted picture back. Then change the positive prompt. The result is a stock CONDITIONING for CFGGuider or KSampler.",
            search_aliases=["null text inversion", "null-text", "unconditional embedding", "prompt-to-prompt real image"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL that was inverted: one with a U-Net and prompts (Stable Diffusion 1.x, 2.x, SDXL, Load Face Text Model)."),
                Trajectory.Input("trajectory", tooltip="Of one picture, from Invert Image with method fixed point (or ddim B, as the paper) and cfg 1, its positive being the source prompt."),
                io.Conditioning.Input("positive", tooltip="The source prompt, as in Invert Image."),
                io.Conditioning.Input("negative", tooltip="The negative to begin with: CLIP Text Encode with an empty text."),
                io.Float.Input("cfg", default=7.5, min=1.0, max=30.0, step=0.1, tooltip="Guidance of the edit; sample with the same. The paper uses 7.5."),
                io.Int.Input("inner_steps", default=STEPS, min=0, max=500, tooltip="At most so many updates a step; each costs a forward and a backward pass. The paper uses 10."),
                io.Float.Input("rate", default=RATE, min=0.0001, max=1.0, step=0.001, round=0.0001, advanced=True, optional=True, tooltip="Learning rate at the noisiest step; it falls to half."),
                io.Float.Input("tolerance", default=TOLERANCE, min=0.0, max=1.0, step=0.00001, round=0.000001, advanced=True, optional=True, tooltip="A step is good enough at this mean squared error. 0: use all inner steps."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="negative", tooltip="One entry a step. Sample with the SIGMAS of the trajectory."),
                io.String.Output(display_name="report", tooltip="How far from the picture sampling ends, with these and with the plain negative."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, trajectory, positive, negative, cfg, inner_steps, rate=RATE, tolerance=TOLERANCE) -> io.NodeOutput:
        """Fit."""
        path = trajectory_from_payload(trajectory)
        path.check_model(model_fingerprint(model))
        if path.states.shape[1] != 1:
            raise ValueError(
                f"the trajectory holds {path.states.shape[1]} pictures, but embeddings of several cannot follow the rows of Pair Latent or of a "
                "batch of edits; invert and fit one picture at a time"
            )
        used = path.extra.get("prompts", {}).get("cfg", 1.0)
        if used != 1:
            raise ValueError(f"the trajectory was inverted at cfg {used:g}; null-text optimisation needs cfg 1 there and guides afterwards")
        n = len(path.sigmas) - 1
        report = reporter(model, n * (inner_steps + 2))
        entries, *ends = null_text(model, path, positive, negative, cfg, report, steps=inner_steps, lr=rate, tolerance=tolerance)
        fitted, plain = (float((end.image.cpu() - path.x0).square().mean().sqrt()) for end in ends)
        return io.NodeOutput(
            entries,
            f"{n} embeddings; sampling at cfg {cfg:g} ends {fitted:.4f} (rms) from the picture, {plain:.4f} with the plain negative",
        )


class HSpaceProximalCFG(io.ComfyNode):
    """Guidance that acts only where the prompts differ."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceProximalCFG",
            display_name="Proximal CFG",
            category="HSpace/edit",
            description="Lets guidance act only where positive and negative differ most, so that the rest of an inverted picture stays. Feed the source prompt as negative. A stock MODEL patch for any sampler.",
            search_aliases=["proxnpi", "proxedit", "negative prompt inversion", "npi", "guidance threshold"],
            inputs=[
                io.Model.Input("model", tooltip="Any model that is sampled with cfg above 1."),
                io.Combo.Input("mode", options=list(MODES), tooltip="l0: small differences are dropped. l1: large ones are drawn in as well."),
                io.Float.Input("quantile", default=0.7, min=0.0, max=1.0, step=0.01, tooltip="Share of the picture's values that counts as small. 0: plain guidance; the paper uses 0.7."),
                Trajectory.Input("trajectory", optional=True, tooltip="From Invert Image: what hardly differs is then drawn back to the source in the last steps."),
                io.Float.Input("sigma_guide", default=0.0, min=0.0, max=1000.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip="It is drawn back at or below this noise level. 0: automatic (t = 400)."),
                io.Float.Input("rate", default=1.0, min=0.0, max=1.0, step=0.05, advanced=True, optional=True, tooltip="How firmly: 1 puts the source there."),
                io.Int.Input("dilate", default=1, min=0, max=64, advanced=True, optional=True, tooltip="Widens what may change by so many pixels of the latent."),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, mode, quantile, trajectory=None, sigma_guide=0.0, rate=1.0, dilate=1) -> io.NodeOutput:
        """Patch a clone."""
        path = None if trajectory is None else trajectory_from_payload(trajectory)
        return io.NodeOutput(add_proximal(model, quantile, mode, path, sigma_guide, rate, dilate))


NODES = [HSpaceNullTextOptimise, HSpaceProximalCFG]
