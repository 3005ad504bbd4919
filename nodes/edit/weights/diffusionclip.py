"""Edit: fine-tuned weights as a patch of a MODEL (DiffusionCLIP, arXiv 2110.02711)."""

from ....core.edit.weights.diffusionclip import Share
from ....core.edit_schedule import EditSchedule
from ....core.files.diffusionclip import from_lora
from ...dials import sigma_input, signed_input
from ...host.api import LoraModel, Node, io
from ...host.model.fingerprint import model_fingerprint
from ...host.model.pixel_model import unet_of
from ...host.patches.model_edits import MixEdit, add_model_edit, check_pixels


class HSpaceSteerFineTuned(Node):
    """Patches a MODEL with fine-tuned weights, mixed in by noise level."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSteerFineTuned",
            display_name="Steer With Fine-Tuned Weights",
            category="HSpace/edit/weights",
            description="Mixes the prediction of a fine-tuned network (DiffusionCLIP) into that of a MODEL. Several in a row combine attributes, each in its own window of noise levels. What they leave over is the original's.",
            search_aliases=["diffusionclip", "degree of change", "noise combination", "multi attribute"],
            inputs=[
                io.Model.Input("model", tooltip="The pixel model that it was trained on. Its trajectories stay valid."),
                LoraModel.Input(
                    "lora",
                    tooltip="The weights come from Train DiffusionCLIP, Load Fine-Tuned Weights or Load DiffusionCLIP Checkpoint.",
                ),
                signed_input(
                    "degree",
                    1.0,
                    4.0,
                    "Its share of the prediction. 0 is the original, 1 is the fine-tuned network alone.",
                ),
                sigma_input("sigma_start", 200.0, "It acts only at or below this noise level.", advanced=True),
                sigma_input("sigma_end", 0.0, "It acts only at or above this noise level.", advanced=True),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, lora, degree, sigma_start=200.0, sigma_end=0.0) -> io.NodeOutput:
        check_pixels(model, "DiffusionCLIP")
        weights = from_lora(lora)
        weights.check_model(model_fingerprint(model), unet_of(model))
        return io.NodeOutput(
            add_model_edit(model, MixEdit(Share(weights, EditSchedule(degree, sigma_start, sigma_end))))
        )


NODES = [HSpaceSteerFineTuned]
