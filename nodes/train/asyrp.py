"""Train: Asyrp's shift of h, fitted to a frozen MODEL inside the graph."""

from ...core.files.asyrp import asyrp_to_payload, save_asyrp
from ...core.files.lpips import lpips_distance, lpips_missing
from ...core.measure.plots import levels_plot
from ...core.networks.asyrp import TrainedAsyrp, new_asyrp
from ...core.payload import trajectory_from_payload
from ...core.train.asyrp import AsyrpSettings, check_edited, predict_shifted, split_one, train_asyrp, trained_shift
from ...core.train.asyrp_levels import edit_levels
from ...core.train.directional import PromptPair, text_direction
from ..dials import AUTOMATIC, count_input, model_input, rate_input, vae_input
from ..host import paths
from ..host.api import Asyrp, Node, io, ui
from ..host.model.decoded import Decoder
from ..host.model.fingerprint import model_fingerprint
from ..host.model.pixel_model import unet_of
from ..host.model.prompts import Prompts
from ..host.model.run import with_denoiser
from ..host.progress import reporter
from ..host.training import NodeSession, facts_of, gradients, networks_of
from ..looking import default_sigma
from . import schema
from .pictures import TrainingPictures, keep_best


class HSpaceTrainAsyrp(Node):
    """Asyrp's shift of h."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTrainAsyrp",
            display_name="Train Asyrp",
            category="HSpace/train",
            description="Trains a small block that shifts h so that pictures move from one prompt to another. The model itself stays as it is. A cancelled run goes on when it is queued again.",
            search_aliases=["asyrp", "h-space", "clip guided", "text guided training", "delta h"],
            inputs=[
                model_input(),
                schema.pictures(),
                *schema.prompts(),
                schema.level(
                    "sigma_edit",
                    f"The lowest noise level that is edited (t_edit), for example from Asyrp Levels. {AUTOMATIC}",
                ),
                count_input("epochs", 2, schema.EPOCHS, most=1000),
                schema.batch("Pictures"),
                rate_input(
                    0.002,
                    "The learning rate. Take about 0.002 with adam, and 0.5 with sgd as in the released code.",
                    least=1e-6,
                    most=10.0,
                ),
                schema.OPTIMISER,
                schema.level(
                    "sigma_boost",
                    "A noise level that is stored with the result. From this level down the paper draws noise anew (t_boost). Set 'boost' of Render Trajectory to it.",
                    advanced=True,
                ),
                *schema.losses(1.0, "The hold on the picture (3 in the paper)."),
                schema.blur(),
                schema.seed(),
                vae_input(),
            ],
            outputs=schema.outputs(Asyrp.Output(display_name="trained")),
        )

    @classmethod
    def execute(
        cls,
        model,
        trajectory,
        embedder,
        source,
        target,
        sigma_edit,
        epochs,
        batch,
        lr,
        optimiser,
        sigma_boost=0.0,
        clip_weight=1.0,
        l1_weight=1.0,
        blur=0.0,
        seed=0,
        vae=None,
    ) -> io.NodeOutput:
        pictures = TrainingPictures.of(model, trajectory, batch)
        level = sigma_edit or default_sigma(model, max(pictures.trajectory.states.shape[-2:]))
        prompts = schema.checked_prompts(model, embedder, source, target)
        check_edited(pictures.trajectory, level)
        settings = AsyrpSettings(level, sigma_boost, epochs, batch, lr, optimiser, clip_weight, l1_weight, blur, seed)
        facts = {"method": "asyrp", **schema.prompt_facts(prompts), **facts_of(settings, "sigma_boost")}
        with NodeSession(model, prompts.label, pictures.trajectory, facts) as session:
            trained = pictures.train(lambda denoiser: _train(denoiser, pictures, prompts, settings, session, vae))
        note = f"; edits {trained.steps} of {len(pictures.trajectory.sigmas) - 1} steps, down to sigma {level:.3g}"
        return schema.training_output(cls, asyrp_to_payload(trained), session, note)


def _train(
    denoiser, pictures: TrainingPictures, prompts: PromptPair, settings: AsyrpSettings, session: NodeSession, vae
) -> TrainedAsyrp:
    guide = pictures.guide(denoiser, prompts.embedder, vae)
    usable = pictures.usable()
    part, sigma = split_one(denoiser, usable)
    shift = new_asyrp(unet_of(pictures.model), part.h.shape[1], pictures.levels, settings.seed).to(sigma.device)

    def write():
        trained = trained_shift(shift, denoiser.fingerprint, pictures.trajectory, prompts.label, settings, {})
        return save_asyrp(session.unfinished_path(paths.ASYRP), trained)

    keep_best(session, shift, write)
    with gradients(*guide.networks):
        frozen = [denoiser.net, *guide.networks]
        pictures.check_memory(session, lambda: guide.look(predict_shifted(part, shift, sigma)), shift, frozen)
        return train_asyrp(denoiser, usable, shift, prompts, settings, decode=guide.decode, session=session)


class HSpaceAsyrpLevels(Node):
    """The paper's rule for t_edit and t_boost."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceAsyrpLevels",
            display_name="Asyrp Levels",
            category="HSpace/train",
            description="Measures where Asyrp is to edit and to draw noise anew, by its rule: it edits while the prediction is far from the picture (LPIPS 0.33 times the likeness of the prompts), and draws noise where the noisy picture is near it. Without the lpips package a stand-in (1 - SSIM) is used, and the report says so.",
            search_aliases=["t_edit", "t_boost", "lpips"],
            inputs=[
                model_input(),
                schema.pictures(),
                *schema.prompts(),
                vae_input(),
            ],
            outputs=[
                io.Float.Output(display_name="sigma_edit"),
                io.Float.Output(display_name="sigma_boost"),
                io.Image.Output(display_name="plot"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(cls, model, trajectory, embedder, source, target, vae=None) -> io.NodeOutput:
        trajectory = trajectory_from_payload(trajectory).to(model.load_device)
        trajectory.check_model(model_fingerprint(model))
        networks_of(embedder, model.load_device)
        _, cosine = text_direction(embedder, source, target)
        report = reporter(model, len(trajectory.sigmas) - 1)

        def work(denoiser):
            decode = Decoder(denoiser.patcher, vae, trajectory.x0.shape)
            return edit_levels(
                denoiser, trajectory, cosine, distance=lpips_distance(model.load_device), decode=decode, callback=report
            )

        rule = with_denoiser(model, trajectory.x0.shape, Prompts.of(trajectory), work)
        how = "LPIPS" if rule.lpips else f"1 - SSIM in place of LPIPS ({lpips_missing()})"
        picture = levels_plot(rule.sigmas, rule.predicted, rule.noisy, rule.sigma_edit, rule.sigma_boost, how)
        text = f"edit down to sigma {rule.sigma_edit:.3g}, draw noise from {rule.sigma_boost:.3g} down; prompts' cosine {cosine:.2f}; {how}"
        return io.NodeOutput(rule.sigma_edit, rule.sigma_boost, picture, text, ui=ui.PreviewImage(picture, cls=cls))


NODES = [HSpaceTrainAsyrp, HSpaceAsyrpLevels]
