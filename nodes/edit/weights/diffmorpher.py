"""Edit: frames between two inverted pictures, and alphas at which they change evenly."""

from ....core.edit.weights.diffmorpher import interpolated_steps
from ....core.edit.weights.interpolate import alphas_text, even_alphas, parse_alphas
from ....core.edit.weights.reschedule import neighbour_distances, reschedule_plot, reschedule_text, rescheduled
from ....core.files.lpips import lpips_distance
from ....core.networks.low_rank import MODES
from ....core.payload import trajectory_from_payload
from ...dials import count_input, refuse_edits, share_input, vae_input
from ...host.api import LoraModel, Node, Trajectory, io, ui
from ...host.model.images import decode, from_image
from ...host.model.latents import latents_out
from ...host.patches.diffmorpher import decoder_layers, groups, morph
from ...host.progress import reporter
from ...host.ui import show_picture
from ...unused import refuse_unused

_LORA = "The LoRA of this picture, from Fit Image LoRA. Invert the picture with this LoRA on the MODEL (Load LoRA Model, strength 1)."


class HSpaceMorphFrames(Node):
    """Draws frames between two inverted pictures (DiffMorpher)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceMorphFrames",
            display_name="Morph Frames",
            category="HSpace/edit/weights",
            description="Makes frames between two inverted pictures (DiffMorpher). Noise moves on the arc between theirs; prompts, LoRAs and the keys and values of self-attention are interpolated. The IMAGE batch goes into any video node.",
            search_aliases=["diffmorpher", "morphing", "interpolate", "transition", "slerp", "blend images", "video"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model of both trajectories, without the two LoRAs. Edits of Steer and the like on it are refused.",
                ),
                Trajectory.Input(
                    "first",
                    tooltip="The first picture alone, from Invert Image. Its prompt and cfg are used. Invert at cfg 1.",
                ),
                Trajectory.Input("second", tooltip="The second picture, from Invert Image with the same SIGMAS."),
                count_input(
                    "frames",
                    12,
                    "The number of frames, both ends included, evenly spaced in alpha. 'alphas' takes its place if it is filled in.",
                    least=2,
                    most=4096,
                ),
                io.String.Input(
                    "alphas",
                    default="",
                    tooltip="The places of the frames from 0 (first) to 1 (second), separated by commas, for example from Perceptual Reschedule. An empty text spaces them evenly.",
                ),
                share_input(
                    "attention",
                    0.6,
                    "The share of the steps, from the noisiest, in which keys and values of the decoder's self-attention are interpolated between both pictures. 0 is off, and 0.6 is the paper's.",
                ),
                io.Boolean.Input(
                    "adain",
                    default=True,
                    tooltip="Interpolates mean and deviation of every channel of the noise too. This keeps colours and contrast between those of both pictures.",
                ),
                LoraModel.Input("lora_first", optional=True, tooltip=_LORA),
                LoraModel.Input("lora_second", optional=True, tooltip=_LORA),
                vae_input(),
                io.Combo.Input(
                    "lora_mode",
                    options=list(MODES),
                    advanced=True,
                    optional=True,
                    tooltip="delta is the sum of both differences, as the paper writes it. factors interpolates both matrices by themselves, as the released code does; it is for LoRAs fitted with one seed.",
                ),
                count_input(
                    "batch",
                    4,
                    "The number of frames at a time. While attention is interpolated both ends run along with every batch that does not hold them. All frames at once cost nothing extra.",
                    most=256,
                    advanced=True,
                ),
            ],
            outputs=[
                io.Image.Output(display_name="frames"),
                io.String.Output(display_name="alphas", tooltip="They go into Perceptual Reschedule."),
                io.Latent.Output(display_name="latent"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        first,
        second,
        frames,
        alphas,
        attention,
        adain,
        lora_first=None,
        lora_second=None,
        vae=None,
        lora_mode="delta",
        batch=4,
    ) -> io.NodeOutput:
        refuse_edits(model, "frames between two pictures are drawn without them")
        if alphas.strip():
            refuse_unused(cls, "gives evenly spaced frames, and 'alphas' names their places", frames=frames)
        if lora_first is None and lora_second is None:
            refuse_unused(cls, "says how two LoRAs are interpolated, and none is connected", lora_mode=lora_mode)
        if not decoder_layers(model) and attention:
            refuse_unused(
                cls, "interpolates self-attention, and this model has no transformer blocks", attention=attention
            )
        one, two = trajectory_from_payload(first), trajectory_from_payload(second)
        places = parse_alphas(alphas) if alphas.strip() else even_alphas(frames)
        steps, layers = len(one.sigmas) - 1, decoder_layers(model)
        report = reporter(model, steps * groups(places, batch))
        states = morph(
            model,
            one,
            two,
            (lora_first, lora_second),
            places,
            mode=lora_mode,
            statistics=adain,
            share=attention,
            batch=batch,
            report=report,
        )
        latent = {"samples": latents_out(model, states)}
        changed = interpolated_steps(steps, attention)
        extent = (
            f"in {changed} of {steps} steps, in {layers} layers"
            if layers
            else "nowhere: this model has no transformer blocks"
        )
        loras = sum(lora is not None for lora in (lora_first, lora_second))
        text = f"{len(places)} frames; self-attention interpolated {extent}; {loras} LoRAs{f', {lora_mode}' if loras else ''}"
        frames = decode(model, vae, states)
        return io.NodeOutput(frames, alphas_text(places), latent, text, ui=show_picture(frames, cls))


class HSpacePerceptualReschedule(Node):
    """Spaces frames evenly to the eye."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpacePerceptualReschedule",
            display_name="Perceptual Reschedule",
            category="HSpace/edit/weights",
            description="Measures how far neighbouring frames of a morph are apart, and gives the alphas at which they would be evenly far. Connect them to a second Morph Frames. Without the lpips package a stand-in (1 - SSIM) is used, and the report says so.",
            search_aliases=["diffmorpher", "lpips", "uniform", "easing", "smooth"],
            inputs=[
                io.Image.Input("frames", tooltip="The frames come from Morph Frames, in order."),
                io.String.Input(
                    "alphas",
                    default="",
                    tooltip="The alphas of the frames, from Morph Frames. An empty text means evenly spaced.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="alphas", tooltip="There are as many as frames, and the ends are unchanged."
                ),
                io.Image.Output(display_name="curve"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(cls, frames, alphas="") -> io.NodeOutput:
        places = parse_alphas(alphas) if alphas.strip() else even_alphas(len(frames))
        lpips = lpips_distance()
        apart = neighbour_distances(from_image(frames, "frames"), lpips, reporter(None, None, preview=False))
        moved = rescheduled(apart, places)
        picture = reschedule_plot(apart, places, moved, "LPIPS" if lpips else "1 - SSIM")
        how = "LPIPS" if lpips else "1 - SSIM in place of LPIPS, which is not installed"
        text = reschedule_text(apart, how)
        return io.NodeOutput(alphas_text(moved), picture, text, ui=ui.PreviewImage(picture, cls=cls))


NODES = [HSpaceMorphFrames, HSpacePerceptualReschedule]
