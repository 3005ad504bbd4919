"""Edit, with what was trained: shifts of h, fine-tuned weights and rectifiers as patches of a MODEL, and their files."""

from ..core.edit.code_edit_io import AGEING, MAPPER, code_edit_from_payload, save_code_edit
from ..core.edit.delta import DeltaEdit
from ..core.edit.delta_io import delta_from_payload, delta_to_payload, load_delta, save_delta
from ..core.edit.domain import into_domain
from ..core.edit.heads_io import FORMAT as HEADS
from ..core.edit.heads_io import heads_from_payload, save_heads
from ..core.edit.mix import Share
from ..core.edit.rectifier_io import load_rectifier, rectifier_from_payload, rectifier_to_payload, save_rectifier
from ..core.edit.schedule import EditSchedule
from ..core.edit.weights_io import from_lora, load_weights, save_weights, to_lora
from ..core.paths import safe_output_path
from ..core.payload import trajectory_from_payload
from ..core.train.asyrp import global_shift
from .dials import MODEL, VAE, default_sigma
from .host import paths
from .host.api import Delta, DeltaMapper, Heads, LoraModel, Pada, Rectifier, Trajectory, io, ui
from .host.denoiser import Prompts, check_network, with_denoiser
from .host.fingerprint import model_fingerprint
from .host.images import decode, encode
from .host.model import unet_of
from .host.model_edits import MixEdit, RectifierEdit, add_model_edit, check_pixels
from .host.progress import reporter
from .host.steering import add_steering

_STRENGTH = "1 is what was trained, 0 is off, negative goes the other way."
_PRESS = "Press R after putting a file there. Those that come with the pack begin with 'hspace/'."


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
        return io.NodeOutput(add_steering(model, DeltaEdit(found, found.schedule(strength, sigma_end))))


class HSpaceMeanTrained(io.ComfyNode):
    """Asyrp's global shift."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceMeanTrained",
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
        found.delta.to(path.states.device)
        mean = with_denoiser(model, path.x0.shape, Prompts.of(path), lambda denoiser: global_shift(denoiser, path, found, one=one))
        return io.NodeOutput(delta_to_payload(mean))


class HSpaceSteerFineTuned(io.ComfyNode):
    """Fine-tuned weights, mixed in by noise level."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSteerFineTuned",
            display_name="Steer With Fine-Tuned Weights",
            category="HSpace/edit",
            description="Mixes the prediction of a fine-tuned network (DiffusionCLIP) into that of a MODEL. Several in a row combine attributes, each in its own window of noise levels; what they leave over is the original's.",
            search_aliases=["diffusionclip", "degree of change", "noise combination", "multi attribute"],
            inputs=[
                io.Model.Input("model", tooltip="The pixel model that it was trained on. Its trajectories stay valid."),
                LoraModel.Input("lora", tooltip="From Train DiffusionCLIP, Load Fine-Tuned Weights or Load DiffusionCLIP Checkpoint."),
                io.Float.Input("degree", default=1.0, min=-4.0, max=4.0, step=0.05, tooltip="Its share of the prediction: 0 the original, 1 the fine-tuned network alone."),
                io.Float.Input("sigma_start", default=200.0, min=0.0, max=200.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip="It acts only at or below this noise level."),
                io.Float.Input("sigma_end", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip="It acts only at or above this noise level."),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, lora, degree, sigma_start=200.0, sigma_end=0.0) -> io.NodeOutput:
        """Patch a clone."""
        check_pixels(model, "DiffusionCLIP")
        weights = from_lora(lora)
        weights.check_model(model_fingerprint(model), unet_of(model))
        return io.NodeOutput(add_model_edit(model, MixEdit(Share(weights, EditSchedule(degree, sigma_start, sigma_end)))))


class HSpaceApplyRectifier(io.ComfyNode):
    """A rectifier as a model patch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceApplyRectifier",
            display_name="Apply Rectifier",
            category="HSpace/edit",
            description="A MODEL that corrects itself towards the picture of a trajectory while it samples, and towards a trained edit of it. Goes with Steer in one chain.",
            search_aliases=["hifi", "high fidelity", "hypernetwork"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip="Of the picture that is edited, made with the MODEL before it was rectified."),
                Rectifier.Input("rectifier", tooltip="From Train Rectifier or Load Rectifier."),
                Rectifier.Input("edit", optional=True, tooltip="From Train Rectifier Edit, or Load Rectifier. Without it the picture is only rebuilt."),
                io.Float.Input("strength", default=1.0, min=-4.0, max=4.0, step=0.05, tooltip="From reconstruction (0) to the edit (1) and beyond."),
                io.Float.Input("amount", default=1.0, min=0.0, max=2.0, step=0.05, advanced=True, optional=True, tooltip="Of the whole correction; 0 is the model itself."),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, trajectory, rectifier, strength, edit=None, amount=1.0) -> io.NodeOutput:
        """Patch a clone."""
        check_network(model)
        path, first = trajectory_from_payload(trajectory), rectifier_from_payload(rectifier)
        second = rectifier_from_payload(edit) if edit is not None else None
        path.check_model(model_fingerprint(model))
        for one, role in ((first, False), (second, True)):
            if one is None:
                continue
            one.check_model(model_fingerprint(model))
            if one.edit != role:
                raise ValueError(
                    f"{'edit' if role else 'rectifier'} must be a rectifier trained {'for an edit' if role else 'to rebuild'}, {one.label!r} is "
                    f"the other kind; exchange them, or connect Train Rectifier{' Edit' if role else ''}"
                )
        return io.NodeOutput(add_model_edit(model, RectifierEdit(first, path.x0, second, strength, amount)))


class HSpaceIntoDomain(io.ComfyNode):
    """DiffusionCLIP's way for pictures that the model has never seen."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceIntoDomain",
            display_name="Into The Domain",
            category="HSpace/edit",
            description="Turns a picture of an unseen kind (a drawing, another style) into one of the model's own: noise it, denoise it in a few steps, and again. Invert the result and edit it as usual.",
            search_aliases=["diffusionclip", "unseen domain", "stroke to image", "sdedit"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                io.Image.Input("image", tooltip="Any picture of the model's size."),
                io.Float.Input("sigma", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, tooltip="How much noise. 0: t = 500 of the paper, rescaled to the picture's size; t = 700 for Stable Diffusion."),
                io.Int.Input("steps", default=6, min=1, max=100, tooltip="Of every way back (6 in the paper)."),
                io.Int.Input("repeats", default=8, min=1, max=64, tooltip="How often (8 or more in the paper)."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False, tooltip="Of the noise."),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
                io.Conditioning.Input("positive", optional=True, tooltip="For models that take prompts."),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, image, sigma, steps, repeats, seed, vae=None, positive=None) -> io.NodeOutput:
        """Walk there."""
        check_network(model)
        prompts = Prompts.given(model, positive)
        x0 = encode(model, vae, image)
        level, report = sigma or default_sigma(model, max(x0.shape[-2:])), reporter(model, steps * repeats)

        def work(denoiser):
            return into_domain(denoiser, x0, sigma=level, steps=steps, repeats=repeats, seed=seed, callback=report)

        found = with_denoiser(model, x0.shape, prompts, work)
        picture = decode(model, vae, found)
        return io.NodeOutput(picture, ui=ui.PreviewImage(picture, cls=cls))


_READ = {
    paths.ASYRP: delta_from_payload, paths.RECTIFIER: rectifier_from_payload, paths.TUNED: from_lora, paths.HEADS: heads_from_payload,
    paths.MAPPER: lambda payload: code_edit_from_payload(payload, MAPPER), paths.PADA: lambda payload: code_edit_from_payload(payload, AGEING),
}  # fmt: skip
_WRITE = {
    paths.ASYRP: save_delta, paths.RECTIFIER: save_rectifier, paths.TUNED: save_weights, paths.HEADS: save_heads,
    paths.MAPPER: save_code_edit, paths.PADA: save_code_edit,
}  # fmt: skip
_FORMS = {"hspace.delta": paths.ASYRP, "hspace.rectifier": paths.RECTIFIER, HEADS: paths.HEADS, MAPPER: paths.MAPPER, AGEING: paths.PADA}


class HSpaceSaveTrained(io.ComfyNode):
    """Anything trained into a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSaveTrained",
            display_name="Save Trained Edit",
            category="HSpace/train",
            description="Writes a trained shift, fine-tuned weights, a rectifier, attribute heads, a delta mapper or PADA as safetensors: to models/hspace_edits, or, for weights, to models/loras/hspace, where stock LoRA loaders find them.",
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "trained",
                    [Delta, LoraModel, Rectifier, Heads, DeltaMapper, Pada],
                    tooltip="From a Train node, Mean Trained Edit, or a loader of a released checkpoint.",
                ),
                io.String.Input("name", default="smile", tooltip="A plain name; a number is put behind it if it is taken."),
            ],
            outputs=[io.String.Output(display_name="file")],
        )

    @classmethod
    def execute(cls, trained, name) -> io.NodeOutput:
        """Save."""
        form = trained.get("format") if isinstance(trained, dict) else None
        kind = _FORMS.get(form or "", paths.TUNED)
        value = _READ[kind](trained)
        file = _WRITE[kind](safe_output_path(paths.edits_root(kind), name, ".safetensors"), value)
        return io.NodeOutput(file.name, ui=ui.PreviewText(f"{paths.edit_place(kind)}/{file.name}, {file.stat().st_size / 2**20:.1f} MB"))


def _loader(kind: str, tooltip: str) -> list:
    return [io.Combo.Input("file", options=paths.edit_choices(kind), tooltip=f"{tooltip} in {paths.edit_place(kind)}. {_PRESS}")]


class HSpaceLoadTrained(io.ComfyNode):
    """A trained shift out of a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadTrained",
            display_name="Load Trained Edit",
            category="HSpace/edit",
            description="A shift of h that Train Asyrp made.",
            inputs=_loader(paths.ASYRP, "A file"),
            outputs=[
                Delta.Output(display_name="trained"),
                io.String.Output(display_name="label"),
                io.Float.Output(display_name="sigma_boost", tooltip="For 'boost' of Render Trajectory; 0 if it was trained without."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Runs again when the file changes."""
        return paths.file_stamp(paths.edit_path(paths.ASYRP, file))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Load."""
        found = load_delta(paths.edit_path(paths.ASYRP, file))
        return io.NodeOutput(delta_to_payload(found), found.label, found.sigma_boost)


class HSpaceLoadFineTuned(io.ComfyNode):
    """Fine-tuned weights out of a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadFineTuned",
            display_name="Load Fine-Tuned Weights",
            category="HSpace/edit",
            description="A difference of weights that Train DiffusionCLIP made.",
            inputs=_loader(paths.TUNED, "A file"),
            outputs=[LoraModel.Output(display_name="lora"), io.String.Output(display_name="label")],
        )

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Runs again when the file changes."""
        return paths.file_stamp(paths.edit_path(paths.TUNED, file))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Load."""
        found = load_weights(paths.edit_path(paths.TUNED, file))
        return io.NodeOutput(to_lora(found), found.label)


class HSpaceLoadRectifier(io.ComfyNode):
    """A rectifier out of a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadRectifier",
            display_name="Load Rectifier",
            category="HSpace/edit",
            description="A rectifier that Train Rectifier or Train Rectifier Edit made.",
            inputs=_loader(paths.RECTIFIER, "A file"),
            outputs=[Rectifier.Output(display_name="rectifier"), io.String.Output(display_name="label")],
        )

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Runs again when the file changes."""
        return paths.file_stamp(paths.edit_path(paths.RECTIFIER, file))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Load."""
        found = load_rectifier(paths.edit_path(paths.RECTIFIER, file))
        return io.NodeOutput(rectifier_to_payload(found), found.label)


NODES = [
    HSpaceSteerTrained,
    HSpaceMeanTrained,
    HSpaceSteerFineTuned,
    HSpaceApplyRectifier,
    HSpaceIntoDomain,
    HSpaceSaveTrained,
    HSpaceLoadTrained,
    HSpaceLoadFineTuned,
    HSpaceLoadRectifier,
]
