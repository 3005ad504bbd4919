"""Edit: a rectifier corrects the network towards the picture (arXiv 2312.15707)."""

from ....core.files.rectifier import rectifier_from_payload
from ....core.payload import trajectory_from_payload
from ...dials import model_input, rectifier_input, signed_input
from ...host.api import Node, Rectifier, Trajectory, io
from ...host.model.fingerprint import model_fingerprint
from ...host.model.traits import check_unet
from ...host.patches.model_edits import RectifierEdit, add_model_edit
from ...unused import refuse_unused


class HSpaceApplyRectifier(Node):
    """Patches a MODEL with a rectifier."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceApplyRectifier",
            display_name="Apply Rectifier",
            category="HSpace/edit/weights",
            description="Gives a MODEL that corrects itself towards the picture of a trajectory while it samples, and towards a trained edit of it. It goes with Steer in one chain.",
            search_aliases=["hifi", "high fidelity", "hypernetwork"],
            inputs=[
                model_input(),
                Trajectory.Input(
                    "trajectory",
                    tooltip="The trajectory of the picture that is edited, made with the MODEL before it was rectified.",
                ),
                rectifier_input(),
                Rectifier.Input(
                    "edit",
                    optional=True,
                    tooltip="The edit comes from Train Rectifier Edit or Load Rectifier. Without it the picture is only rebuilt.",
                ),
                signed_input(
                    "strength", 1.0, 4.0, "How far to go from the reconstruction (0) to the edit (1) and beyond."
                ),
                io.Float.Input(
                    "amount",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    advanced=True,
                    optional=True,
                    tooltip="The strength of the whole correction. 0 is the model itself.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, trajectory, rectifier, strength, edit=None, amount=1.0) -> io.NodeOutput:
        check_unet(model)
        if edit is None:
            refuse_unused(
                cls, "goes from reconstruction to the edit, and no edit is connected", strength=strength or None
            )
        trajectory = trajectory_from_payload(trajectory)
        first = rectifier_from_payload(rectifier)
        second = rectifier_from_payload(edit) if edit is not None else None
        trajectory.check_model(model_fingerprint(model))
        for one, role in ((first, False), (second, True)):
            if one is None:
                continue
            one.check_model(model_fingerprint(model))
            if one.edit != role:
                raise ValueError(
                    f"{'edit' if role else 'rectifier'} must be a rectifier trained {'for an edit' if role else 'to rebuild'}, {one.label!r} is "
                    f"the other kind; exchange them, or connect Train Rectifier{' Edit' if role else ''}"
                )
        return io.NodeOutput(add_model_edit(model, RectifierEdit(first, trajectory.x0, second, strength, amount)))


NODES = [HSpaceApplyRectifier]
