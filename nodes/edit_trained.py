"""Edit, with what was trained: a shift of h as a patch of a MODEL, its files, and its mean over pictures."""

from ..core.edit.delta import DeltaEdit
from ..core.edit.delta_io import delta_from_payload, delta_to_payload, load_delta, save_delta
from ..core.edit.schedule import EditSchedule
from ..core.paths import safe_output_path
from ..core.payload import trajectory_from_payload
from ..core.train.asyrp import global_shift
from .dials import MODEL
from .host import paths
from .host.api import Delta, Trajectory, io, ui
from .host.denoiser import Prompts, check_network, with_denoiser
from .host.fingerprint import model_fingerprint
from .host.steering import add_steering

_STRENGTH = "1 is what was trained, 0 is off, negative goes the other way."


class HSpaceSteerTrained(io.ComfyNode):
    """A trained shift as a model patch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSteerTrained",
            display_name="Steer With Trained Edit",
            category="HSpace/edit",
            description="Adds a trained shift of h (Asyrp) to a MODEL. Several in a row add up, also with Steer. Render with asymmetric switched on, as it was trained.",
            search_aliases=["asyrp", "apply trained", "delta h"],
            inputs=[
                io.Model.Input("model", tooltip="The model it was trained on, with LoRA if you like."),
                Delta.Input("trained", tooltip="From Train Asyrp, Load Trained Edit or Load Asyrp Checkpoint."),
                io.Float.Input("strength", default=1.0, min=-20.0, max=20.0, step=0.05, tooltip=_STRENGTH),
                io.Float.Input("sigma_end", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip="Lowest noise level that is edited. 0: the one it was trained for."),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, trained, strength, sigma_end=0.0) -> io.NodeOutput:
        """Patch a clone."""
        found = delta_from_payload(trained)
        found.check_model(model_fingerprint(model), check_network(model))
        return io.NodeOutput(add_steering(model, DeltaEdit(found, EditSchedule(strength, sigma_end=sigma_end or found.sigma_edit))))


class HSpaceMeanShift(io.ComfyNode):
    """Asyrp's global shift."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceMeanShift",
            display_name="Mean Trained Edit",
            category="HSpace/edit",
            description="The mean shift of a trained edit over pictures: one and the same for every picture, by step or for all steps.",
            search_aliases=["global delta h", "asyrp global"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip="Invert Image of some pictures, with the same MODEL."),
                Delta.Input("trained", tooltip="From Train Asyrp, Load Trained Edit or Load Asyrp Checkpoint."),
                io.Boolean.Input("one", default=False, tooltip="One shift for all steps instead of one a step."),
            ],
            outputs=[Delta.Output(display_name="trained")],
        )

    @classmethod
    def execute(cls, model, trajectory, trained, one) -> io.NodeOutput:
        """Average."""
        path, found = trajectory_from_payload(trajectory).to(model.load_device), delta_from_payload(trained)
        path.check_model(model_fingerprint(model))

        def work(denoiser):
            found.delta.to(path.states.device)
            return global_shift(denoiser, path, found, one=one)

        return io.NodeOutput(delta_to_payload(with_denoiser(model, path.x0.shape, Prompts.of(path), work)))


class HSpaceSaveTrained(io.ComfyNode):
    """A trained edit into a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSaveTrained",
            display_name="Save Trained Edit",
            category="HSpace/edit",
            description="Writes a trained edit to models/hspace_edits as safetensors.",
            is_output_node=True,
            inputs=[
                Delta.Input("trained", tooltip="From Train Asyrp."),
                io.String.Input("name", default="smile", tooltip="A plain name; a number is put behind it if it is taken."),
            ],
            outputs=[io.String.Output(display_name="file")],
        )

    @classmethod
    def execute(cls, trained, name) -> io.NodeOutput:
        """Save."""
        file = save_delta(safe_output_path(paths.edits_root(), name, ".safetensors"), delta_from_payload(trained))
        return io.NodeOutput(file.name, ui=ui.PreviewText(f"models/{paths.EDITS}/{file.name}"))


class HSpaceLoadTrained(io.ComfyNode):
    """A trained edit out of a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadTrained",
            display_name="Load Trained Edit",
            category="HSpace/edit",
            description="A trained edit from models/hspace_edits, or one that comes with the pack.",
            inputs=[io.Combo.Input("file", options=paths.edit_choices(), tooltip="Press R after putting a file there.")],
            outputs=[Delta.Output(display_name="trained"), io.String.Output(display_name="label")],
        )

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Runs again when the file changes."""
        return paths.file_stamp(paths.edit_path(file))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Load."""
        found = load_delta(paths.edit_path(file))
        return io.NodeOutput(delta_to_payload(found), found.label)


NODES = [HSpaceSteerTrained, HSpaceMeanShift, HSpaceSaveTrained, HSpaceLoadTrained]
