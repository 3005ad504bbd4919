"""Invert: edit-friendly DDPM noises, and the sampler that spends them."""

from dataclasses import replace

from ..core.edit.edit_friendly import rebuild, recolour
from ..core.invert.edit_friendly import SOLVERS, Solver, invert_edit_friendly
from ..core.invert.inputs import IMAGE_LIMIT
from ..core.payload import trajectory_from_payload, trajectory_to_payload
from .dials import MODEL, VAE
from .host.api import Trajectory, io, ui
from .host.denoiser import Prompts, is_flow, is_latent, with_denoiser
from .host.edit_friendly_sampler import at_once, edit_friendly_sampler
from .host.images import encode, one_mask
from .host.progress import reporter
from .invert import beside_original


class HSpaceEditFriendlyInversion(io.ComfyNode):
    """A picture becomes a noise a step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceEditFriendlyInversion",
            display_name="Edit-Friendly Inversion",
            category="HSpace/invert",
            description=(
                "Finds the noise of every step of a stochastic sampler, so that sampling with them returns the picture exactly at any guidance, "
                "and sampling with another prompt edits it. For Sample Edit-Friendly."
            ),
            search_aliases=["ddpm inversion", "edit friendly", "ledits", "ledits++", "turboedit", "noise maps"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                io.Image.Input("image", tooltip="The picture to edit, at the size the model was trained on (64x64 for the face models)."),
                io.Sigmas.Input("sigmas", tooltip="From BasicScheduler, as for sampling: do not flip them. 50 to 100 steps; 20 to 30 with sde-dpm++2."),
                io.Conditioning.Input("positive", optional=True, tooltip="What the picture shows; an empty text will do. Models without prompts need none."),
                io.Conditioning.Input("negative", optional=True, tooltip="Only used if cfg is not 1."),
                io.Float.Input("cfg", default=1.0, min=0.0, max=30.0, step=0.1, tooltip="Guidance by the source prompt (paper: 3.5). The picture comes back at any value; above 1 it needs 'negative'."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False, tooltip="Of the noises. Another seed gives another edit and the same reconstruction."),
                io.Combo.Input("solver", options=list(SOLVERS), tooltip="ddpm: the paper. sde-dpm++2: second order, for fewer steps (LEDITS++)."),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
                io.Int.Input("levels_at_once", default=1, min=1, max=64, advanced=True, optional=True, tooltip="Noise levels in one model call. 1 is exact to the last bit; more is faster on a GPU with room. Patched models and ControlNet always take 1."),
                io.Float.Input("noise_shift", default=0.0, min=0.0, max=1.0, step=0.05, advanced=True, optional=True, tooltip="TurboEdit, for models of 3 or 4 steps: 1 puts on the noise of the next lower level. 0: off."),
            ],
            outputs=[
                Trajectory.Output(display_name="trajectory"),
                io.Latent.Output(display_name="clean latent", tooltip="The picture without noise, for the latent input of SamplerCustomAdvanced (the noise is in the sampler of Sample Edit-Friendly); repeat it for a batch of edits."),
                io.Image.Output(display_name="reconstruction"),
                io.Float.Output(display_name="psnr", tooltip="Of the reconstruction against the image (in latents: against the autoencoder's own), in dB."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model,
        image,
        sigmas,
        positive=None,
        negative=None,
        cfg=1.0,
        seed=0,
        solver: Solver = "ddpm",
        vae=None,
        levels_at_once=1,
        noise_shift=0.0,
    ) -> io.NodeOutput:
        """Invert and sample back."""
        if is_flow(model):
            raise ValueError("edit-friendly noises are drawn as x0 + sigma n, which a flow model does not know; use Invert Image")
        prompts = Prompts.given(model, positive, negative, cfg)
        x0 = encode(model, vae, image)
        batch = at_once(model, prompts, levels_at_once)
        report = reporter(model, 2 * max(len(sigmas) - 1, 1), preview=False)

        def work(denoiser):
            path = invert_edit_friendly(
                denoiser, x0, sigmas, solver, seed=seed, batch=batch, noise_shift=noise_shift, callback=report, limit=None if is_latent(model) else IMAGE_LIMIT
            )  # fmt: skip
            return rebuild(denoiser, path, callback=report)

        path = with_denoiser(model, (len(x0) * batch, *x0.shape[1:]), prompts, work)
        path = replace(path, extra={**path.extra, **prompts.stored()})
        rebuilt, quality, picture = beside_original(model, vae, image, x0, path.rebuilt)
        clean = {"samples": model.model.process_latent_out(path.x0.float()).cpu()}
        return io.NodeOutput(trajectory_to_payload(path.to("cpu")), clean, rebuilt, quality, ui=ui.PreviewImage(picture, cls=cls))


class HSpaceSampleEditFriendly(io.ComfyNode):
    """The stored noises as SAMPLER and SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSampleEditFriendly",
            display_name="Sample Edit-Friendly",
            category="HSpace/edit",
            description=(
                "Samples with the noises of Edit-Friendly Inversion in the stock SamplerCustomAdvanced. Give its guider the prompt that the picture "
                "is to follow (any GUIDER). The noise that comes in does not matter; a noise mask on the latent limits the edit."
            ),
            search_aliases=["ddpm inversion", "edit friendly", "ledits", "turboedit", "sampler", "shift image"],
            inputs=[
                Trajectory.Input("trajectory", tooltip="From Edit-Friendly Inversion."),
                io.Int.Input("skip", default=4, min=0, max=999, tooltip="Steps left out at the noisy end. Higher stays closer to the picture; 0 to 40 percent of the steps (paper: 36 of 100)."),
                io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.01, advanced=True, optional=True, tooltip="Of the stored noises. Below 1 the picture's hold on the result loosens."),
                io.Int.Input("shift_x", default=0, min=-4096, max=4096, advanced=True, optional=True, tooltip="Moves the picture to the right, around the edge: pixels, or latents of 8 pixels for Stable Diffusion."),
                io.Int.Input("shift_y", default=0, min=-4096, max=4096, advanced=True, optional=True, tooltip="Moves the picture down; see shift_x."),
                io.Float.Input("clip_last", default=0.0, min=0.0, max=10.0, step=0.001, round=0.0001, advanced=True, optional=True, tooltip="Largest root mean square of the last noise, in the unit of the picture; 0: no limit. TurboEdit limits it in runs of 3 or 4 steps."),
                io.Boolean.Input("source_row", default=False, advanced=True, optional=True, tooltip="The first picture of the batch (with Pair Conditioning: of every pair) stays the source, whatever the guider's cfg: for edits that read the source's attention."),
            ],
            outputs=[io.Sampler.Output(display_name="sampler"), io.Sigmas.Output(display_name="sigmas", tooltip="Already without the skipped steps.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, trajectory, skip, strength=1.0, shift_x=0, shift_y=0, clip_last=0.0, source_row=False) -> io.NodeOutput:
        """Wrap."""
        path = trajectory_from_payload(trajectory)
        return io.NodeOutput(*edit_friendly_sampler(path, skip, strength, (shift_y, shift_x), clip_last, source_row))


class HSpaceRecolourEditFriendly(io.ComfyNode):
    """Colours painted into the noises."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceRecolourEditFriendly",
            display_name="Recolour Edit-Friendly",
            category="HSpace/edit",
            description="Paints a colour into the stored noises of Edit-Friendly Inversion, where the mask is white. Sample Edit-Friendly then draws it into the picture, shading and texture kept; no prompt is needed.",
            search_aliases=["color edit", "change color", "ddpm inversion", "edit friendly", "tint"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL that was inverted."),
                Trajectory.Input("trajectory", tooltip="From Edit-Friendly Inversion."),
                io.Image.Input("colour", tooltip="The colours wished for, in the size of the picture: Empty Image with a colour, or a painted picture."),
                io.Float.Input("strength", default=0.05, min=-2.0, max=2.0, step=0.01, tooltip="How strongly, in every step. 0 changes nothing, bit for bit; below 0 goes away from the colour. The paper has 0.05 in 50 steps; fewer steps need more."),
                io.Mask.Input("mask", optional=True, tooltip="Where they go; without one, everywhere."),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
                io.Float.Input("start", default=0.3, min=0.0, max=1.0, step=0.05, advanced=True, optional=True, tooltip="Share of the steps before colours are painted: what is drawn earlier is shapes."),
                io.Float.Input("end", default=0.8, min=0.0, max=1.0, step=0.05, advanced=True, optional=True, tooltip="Share of the steps after which none are painted, so that fine texture stays."),
            ],
            outputs=[Trajectory.Output(display_name="trajectory", tooltip="For Sample Edit-Friendly, with the prompt and cfg of the inversion.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, trajectory, colour, strength, mask=None, vae=None, start=0.3, end=0.8) -> io.NodeOutput:
        """Paint."""
        path = trajectory_from_payload(trajectory)
        wanted = encode(model, vae, colour, "colour").to(path.states.device)
        region = one_mask(mask, *colour.shape[1:3])
        return io.NodeOutput(trajectory_to_payload(recolour(path, wanted, region, strength, (start, end))))


NODES = [HSpaceEditFriendlyInversion, HSpaceSampleEditFriendly, HSpaceRecolourEditFriendly]
