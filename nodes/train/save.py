"""Train: what was trained becomes a file."""

from ...core.files.asyrp import asyrp_from_payload, save_asyrp
from ...core.files.code_edits import code_edit_from_payload, save_code_edit
from ...core.files.diffusionclip import from_lora, save_weights
from ...core.files.heads import heads_from_payload, save_heads
from ...core.files.kinds import ASYRP, DELTAEDIT, HEADS, PADA, RECTIFIER
from ...core.files.rectifier import rectifier_from_payload, save_rectifier
from ...core.foreign import named
from ...core.paths import save_new
from ..host import paths
from ..host.api import Asyrp, DeltaMapper, Heads, LoraModel, Node, Pada, Rectifier, io, ui

_READ = {
    paths.ASYRP: asyrp_from_payload,
    paths.RECTIFIER: rectifier_from_payload,
    paths.TUNED: from_lora,
    paths.HEADS: heads_from_payload,
    paths.MAPPER: lambda payload: code_edit_from_payload(payload, DELTAEDIT),
    paths.PADA: lambda payload: code_edit_from_payload(payload, PADA),
}


_WRITE = {
    paths.ASYRP: save_asyrp,
    paths.RECTIFIER: save_rectifier,
    paths.TUNED: save_weights,
    paths.HEADS: save_heads,
    paths.MAPPER: save_code_edit,
    paths.PADA: save_code_edit,
}


_FORMS = {
    ASYRP.format: paths.ASYRP,
    RECTIFIER.format: paths.RECTIFIER,
    HEADS.format: paths.HEADS,
    DELTAEDIT.format: paths.MAPPER,
    PADA.format: paths.PADA,
}


class HSpaceSaveTrained(Node):
    """Anything trained into a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSaveTrained",
            display_name="Save Trained Edit",
            category="HSpace/train",
            description="Writes a trained shift, fine-tuned weights, a rectifier, attribute heads, a delta mapper or PADA as safetensors: to models/hspace_edits, or, for weights, to models/loras/hspace, where stock LoRA loaders find them.",
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "trained",
                    [Asyrp, LoraModel, Rectifier, Heads, DeltaMapper, Pada],
                    tooltip="It comes from a Train node, Mean Trained Edit, or a loader of a released checkpoint.",
                ),
                io.String.Input(
                    "name", default="smile", tooltip="A plain name. A number is put behind it if it is taken."
                ),
            ],
            outputs=[io.String.Output(display_name="file")],
        )

    @classmethod
    def execute(cls, trained, name) -> io.NodeOutput:
        form = trained.get("format") if isinstance(trained, dict) else None
        kind = _FORMS.get(form or "", paths.TUNED)
        with named("trained"):
            value = _READ[kind](trained)
        file = save_new(paths.edits_root(kind), name, ".safetensors", lambda path: _WRITE[kind](path, value, new=True))
        return io.NodeOutput(
            file.name, ui=ui.PreviewText(f"{paths.edit_place(kind)}/{file.name}, {file.stat().st_size / 2**20:.1f} MB")
        )


NODES = [HSpaceSaveTrained]
