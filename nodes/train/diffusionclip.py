"""Train: a network fine-tuned towards a prompt (DiffusionCLIP, arXiv 2110.02711)."""

from ...core.files.diffusionclip import save_weights, to_lora
from ...core.networks.vp import VPDenoiser
from ...core.networks.weight_difference import WeightDelta, thinned
from ...core.train.diffusionclip import (
    DiffusionClipSettings,
    predict_one,
    train_diffusionclip,
    tuned_copy,
    tuned_difference,
)
from ...core.train.directional import PromptPair
from ..dials import count_input
from ..host import paths
from ..host.api import LoraModel, Node, io
from ..host.model.traits import check_unet
from ..host.patches.model_edits import check_pixels
from ..host.training import NodeSession, facts_of, gradients
from ..unused import refuse_unused
from . import schema
from .pictures import TrainingPictures


class HSpaceTrainDiffusionCLIP(Node):
    """All weights of a network."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTrainDiffusionCLIP",
            display_name="Train DiffusionCLIP",
            category="HSpace/train",
            description="Fine-tunes a copy of a pixel network so that pictures, sampled back from their noise, move to the target prompt. The node gives the difference of the weights as a LORA_MODEL, also for the stock Load LoRA Model and Save LoRA Weights.",
            search_aliases=["diffusionclip", "fine-tune", "clip guided"],
            inputs=[
                io.Model.Input("model", tooltip="The model comes from Load Face Model or Load Pixel Diffusion Model."),
                schema.pictures("The noisiest level of the trajectory is the paper's t0 (300 to 600 of 1000)."),
                *schema.prompts("face with red hair"),
                count_input(
                    "steps", 6, "The number of steps of the sampling chain in training (6 in the paper).", most=100
                ),
                count_input(
                    "epochs", 5, f"{schema.EPOCHS} More than 5 ruins pictures with the efficient way.", most=100
                ),
                schema.batch("Pictures"),
                io.Float.Input(
                    "lr",
                    default=0.0001,
                    min=1e-8,
                    max=1.0,
                    step=1e-6,
                    round=1e-9,
                    tooltip="The learning rate. Take 8e-6 for networks of 256 pixels and 1e-4 for the face model.",
                ),
                io.Boolean.Input(
                    "efficient",
                    default=True,
                    tooltip="Takes a step of the optimiser at every step of the chain, so that it needs the memory of one step. When off, one loss at the end goes back through the whole chain.",
                ),
                count_input(
                    "rank",
                    16,
                    "The rank of the low-rank matrices that keep the difference. They make small files. 0 keeps all of it.",
                    least=0,
                    most=512,
                ),
                *schema.losses(3.0),
                io.Float.Input(
                    "growth",
                    default=1.3,
                    min=0.1,
                    max=10.0,
                    step=0.1,
                    advanced=True,
                    optional=True,
                    tooltip="The learning rate is multiplied by this after every epoch.",
                ),
                schema.blur(0.02),
                schema.seed(),
            ],
            outputs=schema.outputs(LoraModel.Output(display_name="lora")),
        )

    @classmethod
    def execute(
        cls,
        model,
        trajectory,
        embedder,
        source,
        target,
        steps,
        epochs,
        batch,
        lr,
        efficient,
        rank,
        clip_weight=3.0,
        l1_weight=1.0,
        blur=0.02,
        growth=1.3,
        seed=0,
    ) -> io.NodeOutput:
        check_unet(model)
        if epochs == 1:
            refuse_unused(cls, "changes the learning rate from one epoch to the next, and there is one", growth=growth)
        network = check_pixels(model, "DiffusionCLIP")
        pictures = TrainingPictures.of(model, trajectory, batch)
        prompts = schema.checked_prompts(model, embedder, source, target)
        settings = DiffusionClipSettings(
            steps, efficient, epochs, batch, lr, growth, clip_weight, l1_weight, blur, seed
        )
        settings.check_steps(len(pictures.trajectory.sigmas) - 1)
        facts = {"method": "diffusionclip", **schema.prompt_facts(prompts), **facts_of(settings)}

        def work(denoiser):
            plain = network.denoiser(denoiser.fingerprint)
            session.write_best = lambda best: save_weights(
                session.unfinished_path(paths.TUNED), _thin(tuned_difference(plain, best, prompts.label), rank)[0]
            )
            return _train(denoiser, plain, pictures, prompts, settings, session)

        with NodeSession(model, f"{prompts.label}, fine-tuned", pictures.trajectory, facts) as session:
            # Thinned inside of the run, whose state stays if this fails.
            weights, share = _thin(pictures.train(work), rank)
        note = (
            f"; rank {rank or 'full'} keeps {share:.0%} of the squared difference; from sigma"
            f" {float(pictures.trajectory.sigmas[0]):.3g} down"
        )
        return schema.training_output(cls, to_lora(weights), session, note)


def _thin(weights: WeightDelta, rank: int) -> tuple[WeightDelta, float]:
    """Thin a difference, unless rank 0 keeps all of it; with the share that is left."""
    return thinned(weights, rank) if rank else (weights, 1.0)


def _train(
    denoiser,
    plain: VPDenoiser,
    pictures: TrainingPictures,
    prompts: PromptPair,
    settings: DiffusionClipSettings,
    session: NodeSession,
) -> WeightDelta:
    guide, usable = pictures.guide(denoiser, prompts.embedder), pictures.usable()

    def check_memory() -> None:
        trial = tuned_copy(plain)  # gone before the run has a copy of its own
        step = lambda: guide.look(predict_one(trial, usable, settings))  # noqa: E731
        pictures.check_memory(session, step, trial.net, guide.networks)

    with gradients(*guide.networks):
        check_memory()
        return train_diffusionclip(plain, usable, prompts, settings, session=session)


NODES = [HSpaceTrainDiffusionCLIP]
