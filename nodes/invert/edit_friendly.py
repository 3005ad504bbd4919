"""Invert: edit-friendly DDPM noises, and the sampler that spends them."""

from dataclasses import replace

from ...core.edit.noise.edit_friendly import rebuild
from ...core.inputs import IMAGE_LIMIT
from ...core.invert.edit_friendly import SOLVERS, NoiseSettings, Solver, invert_edit_friendly
from ...core.measure.domain import NOISES
from ..dials import (
    cfg_input,
    count_input,
    fit_input,
    model_input,
    negative_input,
    prompts_given,
    seed_input,
    share_input,
    sigmas_input,
    vae_input,
)
from ..host.api import Node, io
from ..host.model.images import encode
from ..host.model.latents import latents_out
from ..host.model.run import with_denoiser
from ..host.model.size import CROP, fit_to_model
from ..host.model.traits import is_flow, is_latent
from ..host.model.world import known_world, look_at_world
from ..host.progress import reporter
from ..host.samplers.edit_friendly import at_once
from ..seeds import EACH
from .reconstruction import PREVIEW, SHOWN, InvertedPicture, inversion_output, inversion_outputs


class HSpaceEditFriendlyInversion(Node):
    """Inverts a picture into a noise for every step (edit-friendly DDPM)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceEditFriendlyInversion",
            display_name="Edit-Friendly Inversion",
            category="HSpace/invert",
            description=(
                "Finds the noise of every step of a stochastic sampler. Sampling with these noises returns the picture "
                "exactly at any guidance, and sampling with another prompt edits it. The trajectory goes into "
                "Sample Edit-Friendly."
            ),
            search_aliases=["ddpm inversion", "edit friendly", "ledits", "ledits++", "turboedit", "noise maps"],
            inputs=[
                model_input(),
                io.Image.Input(
                    "image",
                    tooltip="The picture to edit. One that is far from the model's size (64x64 for the face models) is fitted first: see 'fit'.",
                ),
                sigmas_input("Take 50 to 100 steps, or 20 to 30 with sde-dpm++2."),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="What the picture shows. An empty text will do. Models without prompts need none.",
                ),
                negative_input(),
                cfg_input(
                    "The guidance by the source prompt (paper: 3.5). The picture comes back at any value. Above 1 it needs 'negative'."
                ),
                seed_input(
                    f"The seed of the noises. Another seed gives another edit and the same reconstruction. {EACH}"
                ),
                io.Combo.Input(
                    "solver",
                    options=list(SOLVERS),
                    tooltip="ddpm is the paper's. sde-dpm++2 is of second order, for fewer steps (LEDITS++).",
                ),
                vae_input(),
                count_input(
                    "levels_at_once",
                    1,
                    "The number of noise levels in one model call. 1 is exact to the last bit, and more is faster on a GPU with room. Patched models and ControlNet always take 1.",
                    advanced=True,
                ),
                share_input(
                    "noise_shift",
                    0.0,
                    "For TurboEdit on models of 3 or 4 steps, 1 puts on the noise of the next lower level. 0 is off.",
                    advanced=True,
                ),
                PREVIEW,
                fit_input(),
            ],
            outputs=inversion_outputs(
                "clean latent",
                "The picture without noise, for the latent input of SamplerCustomAdvanced. The noise is in the sampler of Sample Edit-Friendly. Repeat it for a batch of edits.",
                "In latents it is against what the autoencoder alone makes of the image.",
            ),
        )

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
        preview=SHOWN,
        fit=CROP,
    ) -> io.NodeOutput:
        if is_flow(model):
            raise ValueError(
                "edit-friendly noises are drawn as x0 + sigma n, which a flow model does not know; use Invert Image"
            )
        prompts = prompts_given(cls, model, positive, negative, cfg)
        image, fitted = fit_to_model(model, image, fit)
        x0 = encode(model, vae, image)
        batch = at_once(model, prompts, levels_at_once)
        world = known_world(model)
        calls = max(len(sigmas) - 1, 1) * (1 + (preview == SHOWN)) + (NOISES if world else 0)
        report = reporter(model, calls, preview=False)

        def work(denoiser):
            fact = look_at_world(denoiser, x0, world, cfg, report)
            trajectory = invert_edit_friendly(
                denoiser,
                x0,
                sigmas,
                NoiseSettings(solver, seed, noise_shift),
                batch=batch,
                callback=report,
                limit=None if is_latent(model) else IMAGE_LIMIT,
            )
            trajectory = replace(trajectory, world=fact)
            return rebuild(denoiser, trajectory, callback=report, batch=batch) if preview == SHOWN else trajectory

        trajectory = with_denoiser(model, (len(x0) * batch, *x0.shape[1:]), prompts, work)
        clean = {"samples": latents_out(model, trajectory.x0.float()).cpu()}
        return inversion_output(cls, InvertedPicture(model, vae, image, x0, prompts, fitted), trajectory, clean)


NODES = [HSpaceEditFriendlyInversion]
