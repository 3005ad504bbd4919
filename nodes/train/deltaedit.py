"""Train: a delta mapper (DeltaEdit, arXiv 2303.06285), on codes and embeddings of pictures alone."""

import torch

from ...core.files.code_edits import code_edit_to_payload
from ...core.train.code_readings import CodeEditSettings
from ...core.train.deltaedit import train_delta_mapper
from ..host import paths
from ..host.api import DeltaMapper, Node, io
from ..host.code_training import CodeSession, encoded_pictures
from ..host.training import facts_of
from . import schema


class HSpaceTrainDeltaMapper(Node):
    """DeltaEdit's mapper."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTrainDeltaMapper",
            display_name="Train Delta Mapper",
            category="HSpace/train",
            description="Learns, from pairs of pictures and without a word, how the code changes when the embedding does (DeltaEdit). Delta Edit by Text then takes any text. No gradient runs through model or embedder, so it takes minutes on a CPU. A cancelled run goes on when it is queued again.",
            search_aliases=["deltaedit", "deltaspace", "text-free training"],
            inputs=[
                schema.CODE,
                io.Image.Input("image", tooltip=schema.SAME_PICTURES),
                schema.CODE_EMBEDDER,
                schema.steps(3000),
                schema.batch("Pairs", 128, most=1024),
                schema.learning_rate("1e-3 for the face models, 2e-4 for codes of 512"),
                schema.width(256),
                schema.seed("The same seed gives the same weights."),
            ],
            outputs=schema.outputs(DeltaMapper.Output(display_name="mapper")),
        )

    @classmethod
    def execute(cls, code, image, embedder, steps, batch, lr, width=256, seed=0) -> io.NodeOutput:
        pictures = encoded_pictures(code, embedder, image)
        settings = CodeEditSettings(steps, batch, lr, width, seed)
        session = CodeSession("delta mapper", paths.MAPPER, pictures, embedder.space, facts_of(settings))
        with session, torch.inference_mode(False):
            mapper = train_delta_mapper(pictures, embedder.space, settings, label=session.label, session=session)
        return schema.training_output(cls, code_edit_to_payload(mapper), session, f"; {len(pictures.codes)} pictures")


NODES = [HSpaceTrainDeltaMapper]
