"""Train: a rectifier, first to rebuild and then to edit (arXiv 2312.15707)."""

import copy
from dataclasses import replace

from ...core.files.rectifier import TrainedRectifier, rectifier_from_payload, rectifier_to_payload, save_rectifier
from ...core.fingerprint import without_patches
from ...core.networks.rectifier import RectifierNet
from ...core.train.directional import PromptPair
from ...core.train.rectifier import FrozenNetwork, RectifierSettings, train_rectifier
from ...core.train.rectifier_edit import RectifierEditSettings, check_window, train_rectifier_edit
from ..dials import AUTOMATIC, count_input, model_input, rectifier_input, vae_input
from ..host import paths
from ..host.api import Node, Rectifier, io
from ..host.model.fingerprint import model_fingerprint
from ..host.model.traits import check_unet
from ..host.patches.model_edits import cast_weight
from ..host.training import NodeSession, facts_of, gradients
from ..looking import default_sigma
from . import schema
from .pictures import TrainingPictures, keep_best


class HSpaceTrainRectifier(Node):
    """Stage 1."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTrainRectifier",
            display_name="Train Rectifier",
            category="HSpace/train",
            description="Trains a hypernetwork that sees the picture and the current prediction and corrects the kernels of the decoder, so that sampling rebuilds the picture (High-Fidelity Diffusion-based Image Editing, stage 1).",
            search_aliases=["hifi", "high fidelity", "hypernetwork", "reconstruction"],
            inputs=[
                model_input(),
                schema.pictures("The grid should be fine (50 steps in the paper)."),
                schema.steps(1000),
                schema.batch("States"),
                schema.learning_rate("1e-3 for the face model, 1e-4 for large networks"),
                count_input(
                    "code",
                    32,
                    "The width of the code that the branches see. The number of parameters grows with it.",
                    least=4,
                    most=512,
                    advanced=True,
                ),
                schema.seed(),
            ],
            outputs=schema.outputs(Rectifier.Output(display_name="rectifier")),
        )

    @classmethod
    def execute(cls, model, trajectory, steps, batch, lr, code=32, seed=0) -> io.NodeOutput:
        check_unet(model)
        pictures = TrainingPictures.of(model, trajectory, batch)
        settings = RectifierSettings(steps, batch, lr, seed)
        facts = {"method": "rectifier", "code": code, **facts_of(settings)}

        def work(denoiser):
            usable = pictures.usable()
            channels = usable.x0.shape[1]
            net = RectifierNet.of(denoiser.net, pictures.levels, channels=channels, code=code, seed=seed)
            net.to(usable.states.device)
            fingerprint, start = without_patches(denoiser.fingerprint), float(usable.sigmas[0])
            extra = {"steps": steps}
            trained = TrainedRectifier(net, fingerprint, False, start, "reconstruction", extra)
            frozen = FrozenNetwork(denoiser, denoiser.net, cast_weight)
            _keep_best(session, trained)
            pictures.check_memory(session, lambda: frozen.predict_one(net, usable), net, [denoiser.net])
            train_rectifier(frozen, usable, net, settings, session=session)
            return trained

        with NodeSession(model, "rectifier", pictures.trajectory, facts) as session:
            trained = pictures.train(work)
        note = f"; {trained.parameters:,} parameters"
        return schema.training_output(cls, rectifier_to_payload(trained), session, note)


class HSpaceTrainRectifierEdit(Node):
    """Stage 2."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTrainRectifierEdit",
            display_name="Train Rectifier Edit",
            category="HSpace/train",
            description="Trains a copy of a rectifier to an edit from two prompts. Every step starts from the original trajectory, so that errors do not add up over the steps (High-Fidelity Diffusion-based Image Editing, stage 2).",
            search_aliases=["hifi", "high fidelity", "hypernetwork", "clip guided"],
            inputs=[
                model_input(),
                schema.pictures(),
                rectifier_input(),
                *schema.prompts(),
                schema.level(
                    "sigma_start",
                    f"The noisiest level of the edit. {AUTOMATIC}",
                ),
                schema.steps(500),
                schema.batch("States"),
                schema.learning_rate("1e-3 for the face model, 1e-5 to 1e-4 for large networks"),
                *schema.losses(3.0),
                schema.blur(),
                schema.seed(),
                vae_input(),
            ],
            outputs=schema.outputs(Rectifier.Output(display_name="edit")),
        )

    @classmethod
    def execute(
        cls,
        model,
        trajectory,
        rectifier,
        embedder,
        source,
        target,
        sigma_start,
        steps,
        batch,
        lr,
        clip_weight=3.0,
        l1_weight=1.0,
        blur=0.0,
        seed=0,
        vae=None,
    ) -> io.NodeOutput:
        check_unet(model)
        pictures, first = TrainingPictures.of(model, trajectory, batch), rectifier_from_payload(rectifier)
        first.check_model(model_fingerprint(model))
        if first.edit:
            raise ValueError(
                f"rectifier must be one trained to rebuild, {first.label!r} was trained for an edit; connect Train Rectifier"
            )
        level = sigma_start or default_sigma(model, max(pictures.trajectory.states.shape[-2:]))
        prompts = schema.checked_prompts(model, embedder, source, target)
        check_window(pictures.trajectory, level)
        settings = RectifierEditSettings(level, steps, batch, lr, clip_weight, l1_weight, blur, seed)
        facts = {
            "method": "rectifier edit",
            "rectifier": sum(float(p.sum()) for p in first.rectifier.parameters()),
            **schema.prompt_facts(prompts),
            **facts_of(settings, "markov", "grid"),
        }
        with NodeSession(model, f"{prompts.label}, rectifier", pictures.trajectory, facts) as session:
            trained = pictures.train(
                lambda denoiser: _train_edit(denoiser, pictures, rectifier, prompts, settings, session, vae)
            )
        note = f"; {trained.parameters:,} parameters, from sigma {level:.3g} down"
        return schema.training_output(cls, rectifier_to_payload(trained), session, note)


def _train_edit(
    denoiser,
    pictures: TrainingPictures,
    rectifier: dict,
    prompts: PromptPair,
    settings: RectifierEditSettings,
    session: NodeSession,
    vae,
) -> TrainedRectifier:
    guide, usable = pictures.guide(denoiser, prompts.embedder, vae), pictures.usable()
    frozen = FrozenNetwork(denoiser, denoiser.net, cast_weight)
    extra = {"source": prompts.source, "target": prompts.target, "steps": settings.steps}
    with gradients(*guide.networks):
        first = rectifier_from_payload(rectifier)  # again, outside of inference mode
        net = copy.deepcopy(first.rectifier).to(usable.states.device).requires_grad_(True)
        trained = TrainedRectifier(net, first.fingerprint, True, settings.sigma_start, prompts.label, extra)
        _keep_best(session, trained)
        pictures.check_memory(
            session, lambda: guide.look(frozen.predict_one(net, usable)), net, [denoiser.net, *guide.networks]
        )
        edited = train_rectifier_edit(frozen, usable, net, prompts, settings, decode=guide.decode, session=session)
        return replace(trained, rectifier=edited)


def _keep_best(session: NodeSession, trained: TrainedRectifier) -> None:
    keep_best(session, trained.rectifier, lambda: save_rectifier(session.unfinished_path(paths.RECTIFIER), trained))


NODES = [HSpaceTrainRectifier, HSpaceTrainRectifierEdit]
