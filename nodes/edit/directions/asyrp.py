"""Edit: Asyrp's trained shift of h (arXiv 2210.10960), and the mean of several."""

from ....core.edit.directions.asyrp import AsyrpEdit
from ....core.files.asyrp import asyrp_from_payload, asyrp_to_payload
from ....core.payload import trajectory_from_payload
from ....core.train.asyrp import global_shift
from ...dials import model_input, sigma_input, signed_input
from ...host.api import Asyrp, Node, Trajectory, io
from ...host.model.fingerprint import model_fingerprint
from ...host.model.prompts import Prompts
from ...host.model.run import with_denoiser
from ...host.model.traits import check_unet
from ...host.patches.steering import add_steering

_STRENGTH = "1 is what was trained, 0 is off, negative goes the other way. Several are simply added. The released code divides them by the square root of their number: for that, give each of two 0.71 and each of three 0.58."


def _trained():
    return Asyrp.Input(
        "trained", tooltip="The edit comes from Train Asyrp, Load Trained Edit or Load Asyrp Checkpoint."
    )


class HSpaceSteerTrained(Node):
    """Patches a MODEL with a trained shift of h."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSteerTrained",
            display_name="Steer With Trained Edit",
            category="HSpace/edit/directions",
            description="Adds a trained shift of h (Asyrp) to a MODEL. Several in a row add up, also with Steer. Render with asymmetric switched on, as the shift was trained.",
            search_aliases=["asyrp", "apply trained", "delta h"],
            inputs=[
                io.Model.Input("model", tooltip="The model that it was trained on, with LoRA if you like."),
                _trained(),
                signed_input("strength", 1.0, 20.0, _STRENGTH),
                sigma_input(
                    "sigma_end",
                    0.0,
                    "The lowest noise level that is edited. 0 takes the one that it was trained for.",
                    advanced=True,
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, trained, strength, sigma_end=0.0) -> io.NodeOutput:
        trained = asyrp_from_payload(trained)
        trained.check_model(model_fingerprint(model), check_unet(model))
        return io.NodeOutput(add_steering(model, AsyrpEdit(trained, trained.schedule(strength, sigma_end))))


class HSpaceMeanTrained(Node):
    """Averages a trained shift over pictures (Asyrp's global shift)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceMeanTrained",
            display_name="Mean Trained Edit",
            category="HSpace/edit/directions",
            description="Averages the shifts of a trained edit over pictures. The mean is the same for every picture, by step or for all steps.",
            search_aliases=["global delta h", "asyrp global"],
            inputs=[
                model_input(),
                Trajectory.Input("trajectory", tooltip="Some pictures from Invert Image with the same MODEL."),
                _trained(),
                io.Boolean.Input(
                    "one", default=False, tooltip="Makes one shift for all steps in place of one for each step."
                ),
            ],
            outputs=[Asyrp.Output(display_name="trained")],
        )

    @classmethod
    def execute(cls, model, trajectory, trained, one) -> io.NodeOutput:
        trajectory = trajectory_from_payload(trajectory).to(model.load_device)
        trained = asyrp_from_payload(trained)
        trajectory.check_model(model_fingerprint(model))
        trained.shift.to(trajectory.states.device)
        mean = with_denoiser(
            model,
            trajectory.x0.shape,
            Prompts.of(trajectory),
            lambda denoiser: global_shift(denoiser, trajectory, trained, one=one),
        )
        return io.NodeOutput(asyrp_to_payload(mean))


NODES = [HSpaceSteerTrained, HSpaceMeanTrained]
