"""Edit: SDEdit's start in the noise and its repeats; everything else of SDEdit is stock."""

from ..core.edit.sdedit import SPACINGS, sdedit_sigmas
from .host.api import io
from .host.repeat_sampler import repeat_sampler


class HSpaceSDEditSigmas(io.ComfyNode):
    """Levels from t0 down."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSDEditSigmas",
            display_name="SDEdit Sigmas",
            category="HSpace/edit",
            description=(
                "The noise levels of SDEdit: from t0, the share of the model's noise chain that is put onto the picture or painting, down to 0. Unlike "
                "'denoise' of a scheduler, t0 means the same whatever the steps and the spacing."
            ),
            search_aliases=["sdedit", "image to image", "stroke to image", "denoise", "img2img"],
            inputs=[
                io.Model.Input("model", tooltip="Its noise chain is what t0 is a share of."),
                io.Float.Input("t0", default=0.5, min=0.001, max=1.0, step=0.01, round=0.001, tooltip="Share of the chain. 0.3 to 0.6: more is more realistic, less is more faithful. Strokes need about 0.5, small models less (see help)."),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Model calls. Not used by 'all steps'."),
                io.Combo.Input("spacing", options=list(SPACINGS), tooltip="uniform: equal steps in t. karras: more of them near the clean end. all steps: every integer step, as in the paper (t0 times 1000 calls)."),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, t0, steps, spacing) -> io.NodeOutput:
        """Compute."""
        return io.NodeOutput(sdedit_sigmas(model.get_model_object("model_sampling").sigmas, t0, steps, spacing).float())


class HSpaceSDEditRepeat(io.ComfyNode):
    """K repeats of a SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSDEditRepeat",
            display_name="SDEdit Repeat",
            category="HSpace/edit",
            description="Runs a sampler several times: what came out is noised again to the first level and denoised again. Noise masks, hard or soft, hold in every repeat.",
            search_aliases=["sdedit", "repeat sampler", "loop", "refine"],
            inputs=[
                io.Sampler.Input("sampler", tooltip="From KSamplerSelect. ddpm or euler_ancestral are the paper's SDE, euler its ODE."),
                io.Int.Input("repeats", default=3, min=1, max=100, tooltip="K. 1 changes nothing; the paper's code has 3."),
                io.Combo.Input("noise", options=["new", "same"], tooltip="new: every repeat draws its own (the paper). same: all use the noise of the first."),
            ],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )  # fmt: skip

    @classmethod
    def execute(cls, sampler, repeats, noise) -> io.NodeOutput:
        """Wrap."""
        return io.NodeOutput(repeat_sampler(sampler, repeats, noise == "new"))


NODES = [HSpaceSDEditSigmas, HSpaceSDEditRepeat]
