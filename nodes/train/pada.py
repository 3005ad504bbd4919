"""Train: diverse ageing of codes (PADA, arXiv 2303.11086)."""

from contextlib import nullcontext

import torch

from ...core.files.code_edits import code_edit_to_payload
from ...core.train.code_readings import CodeEditSettings
from ...core.train.pada import AgeLabels, PadaSettings, PadaWeights, train_pada
from ...core.train.pada_judge import ages_between
from ..dials import weight_input
from ..host import paths
from ..host.api import Node, Pada, io
from ..host.code_training import CodeSession, encoded_pictures
from ..host.model.fingerprint import model_fingerprint
from ..host.model.one_step import image_losses
from ..host.training import facts_of
from ..unused import refuse_unused
from . import schema

_LONGEST_LABEL = 300


class HSpaceTrainPada(Node):
    """PADA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTrainPada",
            display_name="Train PADA",
            category="HSpace/train",
            description="Learns to age codes in many ways, guided by texts and pictures (PADA). It judges in code space: how old a picture is and what else it shows are read off the code, as the embedder tells them apart by the two lists of texts. It takes minutes on a CPU. With a model connected, pictures are judged too. A cancelled run goes on when it is queued again.",
            search_aliases=["pada", "aging", "ageing", "diverse"],
            inputs=[
                schema.CODE,
                io.Image.Input(
                    "image", tooltip=f"{schema.SAME_PICTURES} All ages are needed, but nobody has to be there twice."
                ),
                schema.CODE_EMBEDDER,
                io.String.Input(
                    "young",
                    default="face with brown hair\nface with black hair\nface with blond hair\nface with red hair",
                    multiline=True,
                    tooltip="Texts of young pictures, one a line. For photographs write 'a photo of a child's face' and the like.",
                ),
                io.String.Input(
                    "old",
                    default="face with grey hair",
                    multiline=True,
                    tooltip="Texts of old pictures, one a line. What lies between both lists counts as age.",
                ),
                schema.steps(3000),
                schema.batch("Codes", 128, least=2, most=1024),
                schema.learning_rate("1e-3 for the face models, 1e-4 for codes of 512"),
                weight_input("identity", PadaWeights.identity, "The hold on what else the picture shows."),
                weight_input("diversity", PadaWeights.diversity, "How strongly variants are pushed apart."),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The autoencoder of the codes, to judge also the pictures that it predicts in one step. This is slower, and its weights stay as they are.",
                ),
                weight_input(
                    "image_weight",
                    PadaWeights.image,
                    "The weight of that judgement, if a model is connected. 0 gives the same result as no model, bit for bit.",
                ),
                schema.width(192),
                schema.seed("The same seed gives the same weights."),
            ],
            outputs=schema.outputs(Pada.Output(display_name="pada")),
        )

    @classmethod
    def execute(
        cls,
        code,
        image,
        embedder,
        young,
        old,
        steps,
        batch,
        lr,
        identity=PadaWeights.identity,
        diversity=PadaWeights.diversity,
        model=None,
        image_weight=PadaWeights.image,
        width=192,
        seed=0,
    ) -> io.NodeOutput:
        if model is None and image_weight:
            refuse_unused(
                cls,
                "weighs the judgement of pictures, and no model is connected to make them",
                image_weight=image_weight,
            )
        ages = {"young": _lines(young), "old": _lines(old)}
        if not all(ages.values()):
            raise ValueError("young and old need at least one text each, one a line")
        pictures = encoded_pictures(code, embedder, image)
        settings = CodeEditSettings(steps, batch, lr, width, seed)
        weights = PadaWeights(identity=identity, diversity=diversity, image=image_weight)
        facts = {**facts_of(settings), "identity": identity, "diversity": diversity, **ages}
        judged = nullcontext((None, 0))
        if model is not None and image_weight > 0:
            facts |= {"model": model_fingerprint(model), "image_weight": image_weight}
            judged = image_losses(model, embedder, pictures.space, image)
        session = CodeSession("PADA", paths.PADA, pictures, embedder.space, facts)
        with session, judged as (images, need), torch.inference_mode(False):
            if model is not None:
                session.check_memory(need, model.load_device)
            trained = train_pada(
                pictures,
                embedder,
                AgeLabels(*ages_between(embedder, pictures.embeddings, **ages)),
                [(text, age) for age, texts in enumerate(ages.values()) for text in texts],
                PadaSettings(**vars(settings), weights=weights),
                images=images,
                label=f"from {ages['young'][0]} to {ages['old'][0]}"[:_LONGEST_LABEL],
                session=session,
            )
        return schema.training_output(cls, code_edit_to_payload(trained), session, f"; {len(pictures.codes)} pictures")


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


NODES = [HSpaceTrainPada]
