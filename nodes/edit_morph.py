"""Edit: frames between two inverted pictures, and alphas at which they change evenly."""

from itertools import accumulate

from ..core.edit.interpolate import alphas_text, even_alphas, parse_alphas
from ..core.edit.low_rank import MODES
from ..core.edit.morph import interpolated_steps
from ..core.edit.reschedule import neighbour_distances, rescheduled
from ..core.payload import trajectory_from_payload
from ..core.plots import lines_plot
from ..core.train.levels import lpips_distance
from .dials import VAE
from .host.api import LoraModel, Trajectory, io, ui
from .host.images import decode, from_image
from .host.morph import decoder_layers, groups, morph
from .host.progress import reporter

_LORA = "From Fit Image LoRA of this picture. Invert the picture with this LoRA on the MODEL (Load LoRA Model, strength 1)."
_LABELS = 12  # numbers that fit below a plot


class HSpaceMorphFrames(io.ComfyNode):
    """DiffMorpher."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceMorphFrames",
            display_name="Morph Frames",
            category="HSpace/edit",
            description="Frames between two inverted pictures (DiffMorpher): noise on the arc between theirs, prompts, LoRAs and the keys and values of self-attention interpolated. The IMAGE batch goes into any video node.",
            search_aliases=["diffmorpher", "morphing", "interpolate", "transition", "slerp", "blend images", "video"],
            inputs=[
                io.Model.Input("model", tooltip="The model of both trajectories, without the two LoRAs. Edits that Steer nodes put on it are left out."),
                Trajectory.Input("first", tooltip="Invert Image of the first picture, alone. Its prompt and cfg are used; invert at cfg 1."),
                Trajectory.Input("second", tooltip="Invert Image of the second picture, with the same SIGMAS."),
                io.Int.Input("frames", default=12, min=2, max=4096, tooltip="How many, both ends included, evenly spaced in alpha. Ignored if 'alphas' is filled in."),
                io.String.Input("alphas", default="", tooltip="Places of the frames from 0 (first) to 1 (second), separated by commas, for example from Perceptual Reschedule. Empty: evenly spaced."),
                io.Float.Input("attention", default=0.6, min=0.0, max=1.0, step=0.05, tooltip="Share of the steps, from the noisiest, in which keys and values of the decoder's self-attention are interpolated between both pictures. 0 is off; 0.6 is the paper's."),
                io.Boolean.Input("adain", default=True, tooltip="Interpolate mean and deviation of every channel of the noise too: keeps colours and contrast between those of both pictures."),
                LoraModel.Input("lora_first", optional=True, tooltip=_LORA),
                LoraModel.Input("lora_second", optional=True, tooltip=_LORA),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
                io.Combo.Input("lora_mode", options=list(MODES), advanced=True, optional=True, tooltip="delta: the sum of both differences, as the paper writes it. factors: both matrices interpolated by themselves, as the released code does; for LoRAs fitted with one seed."),
                io.Int.Input("batch", default=4, min=1, max=256, advanced=True, optional=True, tooltip="Frames at a time. With 'attention' both ends run along with every batch: n at a time cost (n + 2) / n. All at once cost nothing more."),
            ],
            outputs=[
                io.Image.Output(display_name="frames"),
                io.String.Output(display_name="alphas", tooltip="For Perceptual Reschedule."),
                io.Latent.Output(display_name="latent"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, first, second, frames, alphas, attention, adain, lora_first=None, lora_second=None, vae=None, lora_mode="delta", batch=4
    ) -> io.NodeOutput:
        """Render."""
        one, two = trajectory_from_payload(first), trajectory_from_payload(second)
        places = parse_alphas(alphas) if alphas.strip() else even_alphas(frames)
        steps, layers = len(one.sigmas) - 1, decoder_layers(model)
        report = reporter(model, steps * groups(places, batch))
        made = morph(
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
        latent = {"samples": model.model.process_latent_out(made)}
        changed = interpolated_steps(steps, attention)
        said = f"in {changed} of {steps} steps, in {layers} layers" if layers else "nowhere: this model has no transformer blocks"
        loras = sum(lora is not None for lora in (lora_first, lora_second))
        text = f"{len(places)} frames; self-attention interpolated {said}; {loras} LoRAs{f', {lora_mode}' if loras else ''}"
        return io.NodeOutput(decode(model, vae, made), alphas_text(places), latent, text)


class HSpacePerceptualReschedule(io.ComfyNode):
    """Even steps to the eye."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpacePerceptualReschedule",
            display_name="Perceptual Reschedule",
            category="HSpace/edit",
            description="Measures how far neighbouring frames of a morph are apart, and gives the alphas at which they would be evenly far. Connect them to a second Morph Frames. Without the lpips package a stand-in (1 - SSIM) is used, and the report says so.",
            search_aliases=["diffmorpher", "lpips", "uniform", "easing", "smooth"],
            inputs=[
                io.Image.Input("frames", tooltip="From Morph Frames, in order."),
                io.String.Input("alphas", default="", tooltip="Those of the frames, from Morph Frames. Empty: evenly spaced."),
            ],
            outputs=[
                io.String.Output(display_name="alphas", tooltip="As many as frames, ends unchanged."),
                io.Image.Output(display_name="curve"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, frames, alphas="") -> io.NodeOutput:
        """Measure."""
        places = parse_alphas(alphas) if alphas.strip() else even_alphas(len(frames))
        lpips = lpips_distance()
        apart = neighbour_distances(from_image(frames, "frames"), lpips)
        moved = rescheduled(apart, places)
        total, n = sum(apart), len(places)
        how = "LPIPS" if lpips else "1 - SSIM in place of LPIPS, which is not installed"
        every = -(-n // _LABELS)
        names = [str(i + 1) if i % every == 0 else "" for i in range(n)]
        travelled = [c / total if total else 0.0 for c in accumulate([0.0, *apart])]
        panels = {
            f"distance travelled ({'LPIPS' if lpips else '1 - SSIM'})": {"measured": travelled, "even": even_alphas(n)},
            "alpha": {"before": places, "after": moved},
        }
        picture = lines_plot(names, panels, "frame")
        text = f"{how}: {total:.3f} in all, neighbours {min(apart):.4f} to {max(apart):.4f} apart"
        if not total:
            text += "; all frames are equal, alphas are left as they are"
        return io.NodeOutput(alphas_text(moved), picture, text, ui=ui.PreviewImage(picture, cls=cls))


NODES = [HSpaceMorphFrames, HSpacePerceptualReschedule]
