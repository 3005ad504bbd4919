"""Edit: a picture moved by the difference of two prompts, without inversion (FlowEdit, arXiv 2412.08629)."""

from ....core.edit.noise.flowedit import FlowEditOptions, first_step
from ...dials import MAX_SIGMA, count_input, sigma_input
from ...host.api import Node, io, ui
from ...host.samplers.flowedit import flowedit_sampler
from ...seeds import EACH
from ...unused import refuse_unused


class HSpaceFlowEdit(Node):
    """Gives FlowEdit with a strength dial as SAMPLER and SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceFlowEdit",
            display_name="FlowEdit",
            category="HSpace/edit/noise",
            description="Edits a real picture by the difference of a source and a target prompt, with a strength dial and without inversion. It runs on flow models (Flux, Z-Image, Qwen-Image, Stable Diffusion 3) and on U-Nets, also quantised ones.",
            search_aliases=[
                "flowedit",
                "flowslider",
                "flux edit",
                "prompt edit",
                "slider",
            ],
            inputs=[
                io.Sigmas.Input(
                    "sigmas",
                    tooltip="The sigmas come from BasicScheduler with denoise 1. 20 to 50 steps are usual.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=5.0,
                    step=0.05,
                    tooltip="How far the picture goes towards the target prompt. 0 is the source, bit for bit, 1 is plain FlowEdit. Any other value costs one more prediction a step.",
                ),
                sigma_input(
                    "sigma_start",
                    0.0,
                    f"The edit begins at or below this noise level. A lower one keeps more of the structure. 0 leaves out one of seven steps at the noisy end (the authors leave out 4 of 28 for Flux); {MAX_SIGMA:g} takes all steps. The node shows the step.",
                ),
                io.Float.Input(
                    "source_cfg",
                    default=1.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="The guidance of the source prompt. That of the target is the guider's cfg and is higher. 0 takes the guider's guidance for both, which guiders of their own kind need.",
                ),
                count_input(
                    "refine",
                    0,
                    "So many last steps sample the edited picture itself (the paper's n_min). It cleans up, and the rest of the picture may change.",
                    least=0,
                    most=999,
                    advanced=True,
                ),
                count_input(
                    "average",
                    1,
                    f"The number of noises that a step averages over (the paper's n_avg). 2 to 4 helps against blur, and the time grows with it. The seed is that of the sampler's noise. {EACH}",
                    most=64,
                    advanced=True,
                ),
                io.Conditioning.Input(
                    "source",
                    optional=True,
                    tooltip="What the picture shows, encoded. The guider then holds the target alone, and the latent comes straight from VAE Encode. Without it both prompts come from Pair Conditioning, on a latent from Pair Latent.",
                ),
            ],
            outputs=[
                io.Sampler.Output(
                    display_name="sampler",
                    tooltip="It goes into SamplerCustomAdvanced, whose latent is the encoded picture.",
                ),
                io.Sigmas.Output(display_name="sigmas", tooltip="The sigmas come without the steps left out."),
            ],
        )

    @classmethod
    def execute(
        cls, sigmas, strength, sigma_start=0.0, source_cfg=1.0, refine=0, average=1, source=None
    ) -> io.NodeOutput:
        options = FlowEditOptions(strength, refine, average)
        steps = len(sigmas) - 1
        skip = first_step(sigmas, sigma_start)
        if refine > steps - skip:
            raise ValueError(f"refine is {refine}, but only {steps - skip} steps are walked; set it to that or less")
        if refine == steps - skip:
            refuse_unused(cls, "averages the steps before those that refine, and all steps refine", average=average)
        shown = f"{steps - skip} of {steps} steps, from sigma {float(sigmas[skip]):.4g} (step {skip + 1})"
        return io.NodeOutput(
            flowedit_sampler(options, source_cfg, source), sigmas[skip:].clone(), ui=ui.PreviewText(shown)
        )


NODES = [HSpaceFlowEdit]
