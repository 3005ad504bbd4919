"""Edit: SDEdit's start in the noise and its repeats; everything else of SDEdit is stock."""

from ....core.edit.noise.sdedit import ALL_STEPS, SPACINGS, sdedit_sigmas
from ...dials import count_input
from ...host.api import Node, io
from ...host.samplers.sdedit import repeat_sampler
from ...seeds import EACH
from ...unused import only_with, refuse_unused


class HSpaceSDEditSigmas(Node):
    """Computes noise levels from t0 down (SDEdit)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSDEditSigmas",
            display_name="SDEdit Sigmas",
            category="HSpace/edit/noise",
            description=(
                "Gives the noise levels of SDEdit: from t0, the share of the model's noise chain that is put onto "
                "the picture or painting, down to 0. Unlike 'denoise' of a scheduler, t0 means the same whatever "
                "the steps and the spacing."
            ),
            search_aliases=["sdedit", "image to image", "stroke to image", "denoise", "img2img"],
            inputs=[
                io.Model.Input("model", tooltip="The model whose noise chain t0 is a share of."),
                io.Float.Input(
                    "t0",
                    default=0.5,
                    min=0.001,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="The share of the chain, 0.3 to 0.6. More is more realistic, less is more faithful. Strokes need about 0.5, and small models need less (see help).",
                ),
                only_with(
                    count_input(
                        "steps", 20, "The number of model calls. Spacing 'all steps' does not use it.", most=10000
                    ),
                    spacing=[name for name in SPACINGS if name != ALL_STEPS],
                ),
                io.Combo.Input(
                    "spacing",
                    options=list(SPACINGS),
                    tooltip="uniform takes equal steps in t. karras takes more of them near the clean end. all steps takes every integer step, as in the paper (t0 times 1000 calls).",
                ),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas")],
        )

    @classmethod
    def execute(cls, model, t0, steps, spacing) -> io.NodeOutput:
        if spacing == ALL_STEPS:
            refuse_unused(cls, "has no part in spacing all steps, where t0 says how many there are", steps=steps)
        return io.NodeOutput(sdedit_sigmas(model.get_model_object("model_sampling").sigmas, t0, steps, spacing).float())


class HSpaceSDEditRepeat(Node):
    """Repeats a SAMPLER K times (SDEdit)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSDEditRepeat",
            display_name="SDEdit Repeat",
            category="HSpace/edit/noise",
            description="Runs a sampler several times: what came out is noised again to the first level and denoised again. Noise masks, hard or soft, hold in every repeat.",
            search_aliases=["sdedit", "repeat sampler", "loop", "refine"],
            inputs=[
                io.Sampler.Input(
                    "sampler",
                    tooltip="The sampler comes from KSamplerSelect. ddpm and euler_ancestral are the paper's SDE, euler is its ODE.",
                ),
                count_input("repeats", 3, "The paper's K. 1 changes nothing, and the paper's code has 3.", most=100),
                io.Combo.Input(
                    "noise",
                    options=["new", "same"],
                    tooltip=f"With new, every repeat draws its own noise (the paper), by the seed of the first. With same, all use the noise of the first. {EACH}",
                ),
            ],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )

    @classmethod
    def execute(cls, sampler, repeats, noise) -> io.NodeOutput:
        if repeats == 1:
            refuse_unused(cls, "says which noise the repeats use, and repeats is 1", noise=noise)
        return io.NodeOutput(repeat_sampler(sampler, repeats, noise == "new"))


NODES = [HSpaceSDEditSigmas, HSpaceSDEditRepeat]
