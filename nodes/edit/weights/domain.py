"""Edit: a picture of an unseen kind into the model's own domain (DiffusionCLIP, arXiv 2110.02711)."""

from ....core.edit.weights.domain import into_domain
from ...dials import (
    AUTOMATIC,
    count_input,
    fit_input,
    model_input,
    prompts_given,
    refuse_edits,
    seed_input,
    sigma_input,
    vae_input,
)
from ...host.api import Node, io, ui
from ...host.model.images import decode, encode
from ...host.model.run import with_denoiser
from ...host.model.size import CROP, fit_to_model
from ...host.model.traits import check_unet
from ...host.progress import reporter
from ...looking import default_sigma
from ...seeds import EACH


class HSpaceIntoDomain(Node):
    """Brings a picture of an unseen kind into the model's own domain (DiffusionCLIP)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceIntoDomain",
            display_name="Into The Domain",
            category="HSpace/edit/weights",
            description="Turns a picture of an unseen kind (a drawing, another style) into one of the model's own. It is noised and denoised in a few steps, several times. Invert the result and edit it as usual.",
            search_aliases=["diffusionclip", "unseen domain", "stroke to image", "sdedit"],
            inputs=[
                model_input(),
                io.Image.Input(
                    "image", tooltip="Any picture. One that is far from the model's size is fitted first: see 'fit'."
                ),
                sigma_input(
                    "sigma",
                    0.0,
                    f"The noise level. {AUTOMATIC}",
                ),
                count_input("steps", 6, "The number of steps of every way back (6 in the paper).", most=100),
                count_input("repeats", 8, "How often it is noised (8 or more in the paper)."),
                seed_input(f"The seed of the noise. {EACH}"),
                vae_input(),
                io.Conditioning.Input("positive", optional=True, tooltip="Models that take prompts need it."),
                fit_input(),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, model, image, sigma, steps, repeats, seed, vae=None, positive=None, fit=CROP) -> io.NodeOutput:
        check_unet(model)
        refuse_edits(model, "the walk into the domain is that of the original network")
        prompts = prompts_given(cls, model, positive, None, 1.0)
        image, _ = fit_to_model(model, image, fit)
        x0 = encode(model, vae, image)
        level, report = sigma or default_sigma(model, max(x0.shape[-2:])), reporter(model, steps * repeats)

        def work(denoiser):
            return into_domain(denoiser, x0, sigma=level, steps=steps, repeats=repeats, seed=seed, callback=report)

        in_domain = with_denoiser(model, x0.shape, prompts, work)
        picture = decode(model, vae, in_domain)
        return io.NodeOutput(picture, ui=ui.PreviewImage(picture, cls=cls))


NODES = [HSpaceIntoDomain]
