"""Edit: a model and directions become an edited MODEL, a SAMPLER or pictures."""

from ..core.directions_io import load_directions, save_directions
from ..core.edit.combine import combine, select
from ..core.edit.exact import check_plain
from ..core.edit.sample import reconstruct
from ..core.edit.schedule import NORMALISATIONS
from ..core.edit.steer import Edit, steer_trajectory
from ..core.paths import safe_output_path
from ..core.payload import directions_from_payload, directions_to_payload, trajectory_from_payload
from .dials import MODEL, VAE, WINDOW_END, WINDOW_START, edit_schedule, pixels
from .host import paths
from .host.api import Directions, Trajectory, io, ui
from .host.denoiser import Prompts, check_network, edits_of, with_denoiser
from .host.fingerprint import model_fingerprint
from .host.images import decode, one_mask
from .host.model_edits import edited
from .host.progress import reporter
from .host.sampler import resume_sampler
from .host.steering import add_steering

_STRENGTH = "How far to go along the direction (unit length in h). Negative goes the other way; 0 changes nothing. Try 15."


class HSpaceSteer(io.ComfyNode):
    """A MODEL that carries an edit of h."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSteer",
            display_name="Steer",
            category="HSpace/edit",
            description="Adds a direction to the bottleneck while sampling. The result is a stock MODEL: chain several, mix with LoRA, use any sampler.",
            search_aliases=["apply direction", "h-space edit", "semantic slider", "dial"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Directions.Input("directions", tooltip="From Discover Region Directions or Load Directions."),
                io.Float.Input("strength", default=15.0, min=-1000.0, max=1000.0, step=0.5, tooltip=_STRENGTH),
                io.Int.Input("direction", default=1, min=1, max=64, tooltip="Which one, counted from 1 as on the atlas."),
                io.Float.Input("sigma_start", default=0.0, min=0.0, max=1000.0, step=0.01, round=0.001, tooltip=WINDOW_START),
                io.Float.Input("sigma_end", default=0.1, min=0.0, max=1000.0, step=0.01, round=0.001, tooltip=WINDOW_END),
                io.Combo.Input(
                    "normalise", options=list(NORMALISATIONS), advanced=True, optional=True,
                    tooltip="none: strength is a length in h. h: strength is a percentage of the length of h. sigma: strength is scaled by the noise level.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, directions, strength, direction, sigma_start, sigma_end, normalise="none") -> io.NodeOutput:
        """Patch a clone."""
        layers = check_network(model)
        found = directions_from_payload(directions)
        found.check_model(model_fingerprint(model), layers)
        schedule = edit_schedule(found, strength, sigma_start, sigma_end, normalise)
        return io.NodeOutput(add_steering(model, Edit(found.select([direction - 1]), schedule)))


def _check_way_back(path, fresh: float) -> None:
    check_plain(path)
    if fresh and path.extra.get("flow"):
        raise ValueError("fresh noise (eta, boost) is drawn as x0 + sigma n, which a flow model does not know; set it to 0")


class HSpaceResumeTrajectory(io.ComfyNode):
    """The stored trajectory as SAMPLER and SIGMAS for stock samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceResumeTrajectory",
            display_name="Resume Trajectory",
            category="HSpace/edit",
            description="Samples back from an inverted image in the stock SamplerCustomAdvanced. The sampler starts from the stored state, so noise and latent inputs do not matter.",
            search_aliases=["ddim", "asyrp", "asymmetric", "sampler", "resume"],
            inputs=[
                Trajectory.Input("trajectory", tooltip="From Invert Image, made with the same MODEL."),
                io.Boolean.Input(
                    "asymmetric", default=False,
                    tooltip="Edit only the predicted image and not the direction to it (Asyrp). The strength is rescaled so that both have the same first-order effect.",
                ),
                io.Float.Input("eta", default=0.0, min=0.0, max=1.0, step=0.05, advanced=True, optional=True, tooltip="0: deterministic. Above: fresh noise every step (the paper of RBE uses 0.5)."),
                io.Boolean.Input("direct", default=True, advanced=True, optional=True, tooltip="With Pair Conditioning and Pair Latent: keep the source row of every pair on the stored states (DirectInversion). Off: it is sampled like the others. Without effect on rows that are no pairs, or with eta."),
            ],
            outputs=[io.Sampler.Output(display_name="sampler"), io.Sigmas.Output(display_name="sigmas")],
        )  # fmt: skip

    @classmethod
    def execute(cls, trajectory, asymmetric, eta=0.0, direct=True) -> io.NodeOutput:
        """Wrap."""
        path = trajectory_from_payload(trajectory)
        _check_way_back(path, eta)
        return io.NodeOutput(resume_sampler(path, asymmetric, eta, direct), path.sigmas.float())


class HSpaceRenderTrajectory(io.ComfyNode):
    """The one-node way."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceRenderTrajectory",
            display_name="Render Trajectory",
            category="HSpace/edit",
            description="Samples an inverted image back through a steered MODEL and gives the edited picture beside the unedited reconstruction.",
            search_aliases=["edit image", "generate", "ddim sampling", "apply edit"],
            inputs=[
                io.Model.Input("model", tooltip="From Steer, a rectifier or fine-tuned weights; without them this gives the reconstruction. Edits of attention and Proximal CFG are left out: those need Resume Trajectory."),
                Trajectory.Input("trajectory", tooltip="From Invert Image, made with the same MODEL."),
                io.Boolean.Input("asymmetric", default=False, tooltip="Edit only the predicted image, not the direction to it (Asyrp)."),
                io.Float.Input("eta", default=0.0, min=0.0, max=1.0, step=0.05, advanced=True, optional=True, tooltip="Fresh noise in every edited step; 0 is deterministic."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip="Of the fresh noise, if eta or boost is above 0."),
                io.Float.Input("protect", default=0.0, min=0.0, max=1.0, step=0.05, tooltip="How firmly to hold everything outside the mask at the original: 0 off, 1 exactly."),
                io.Mask.Input("mask", optional=True, tooltip="The region that may change; needed by 'protect'."),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
                io.Float.Input("boost", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip="From this noise level down every step draws its noise anew: Asyrp's quality boosting. 0 is off."),
                io.Boolean.Input("lagged", default=False, advanced=True, optional=True, tooltip="As the released RBE code: the direction is added to the h of the step before, which changes the picture by itself. Its eta is 0.5."),
            ],
            outputs=[
                io.Image.Output(display_name="edited"),
                io.Image.Output(display_name="reconstruction", tooltip="The same without steering: compare with this."),
                io.Latent.Output(display_name="latent"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, trajectory, asymmetric, eta=0.0, seed=0, protect=0.0, mask=None, vae=None, boost=0.0, lagged=False
    ) -> io.NodeOutput:
        """Render."""
        path = trajectory_from_payload(trajectory).to(model.load_device)
        path.check_model(model_fingerprint(model))
        _check_way_back(path, eta or boost)
        if protect and mask is None:
            raise ValueError("'protect' holds everything outside a mask, but no mask is connected; connect one or set protect to 0")
        region = one_mask(mask, *pixels(model, path))
        report = reporter(model, len(path.sigmas) - 1)

        def work(denoiser):
            whole = path if path.reconstruction is not None else reconstruct(denoiser, path)
            result = steer_trajectory(
                edited(denoiser, model), whole, edits_of(model), asymmetric=asymmetric, eta=eta, seed=seed, lagged=lagged, boost=boost, protect=protect, mask=region,
                callback=report,
            )  # fmt: skip
            return result, whole.rebuilt

        result, rebuilt = with_denoiser(model, path.x0.shape, Prompts.of(path), work)
        latent = {"samples": model.model.process_latent_out(result).cpu()}
        return io.NodeOutput(decode(model, vae, result), decode(model, vae, rebuilt), latent)


class HSpaceSelectDirections(io.ComfyNode):
    """Some of a set of directions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSelectDirections",
            display_name="Select Directions",
            category="HSpace/edit",
            description="Keeps one or several directions of a set, turns them round if wanted, and names them.",
            search_aliases=["pick direction", "name direction", "flip direction"],
            inputs=[
                Directions.Input("directions", tooltip="From Discover Region Directions or Load Directions."),
                io.Int.Input("first", default=1, min=1, max=256, tooltip="Counted from 1, as on the atlas."),
                io.Int.Input("count", default=1, min=1, max=256, tooltip="How many, from 'first' on."),
                io.Boolean.Input("flip", default=False, tooltip="Turn them round, so that a positive strength does what a negative one did."),
                io.String.Input("label", default="", tooltip="A name for the direction, shown on the atlas and stored in the file: smile, open mouth."),
            ],
            outputs=[Directions.Output(display_name="directions")],
        )  # fmt: skip

    @classmethod
    def execute(cls, directions, first, count, flip, label) -> io.NodeOutput:
        """Select."""
        found = directions_from_payload(directions)
        return io.NodeOutput(directions_to_payload(select(found, first - 1, count, flip=flip, label=label)))


class HSpaceCombineDirections(io.ComfyNode):
    """Several sets as one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceCombineDirections",
            display_name="Combine Directions",
            category="HSpace/edit",
            description="Puts sets of directions of one model and layer behind each other, or adds them up to a single one.",
            search_aliases=["merge directions", "add directions", "stack"],
            inputs=[
                Directions.Input("a", tooltip="First set."),
                Directions.Input("b", tooltip="Second set, of the same model and layer."),
                io.Combo.Input("how", options=["append", "add"], tooltip="append: one set after the other. add: the weighted sum of the first of each, at unit length."),
                io.Float.Input("weight_a", default=1.0, min=-10.0, max=10.0, step=0.05, tooltip="add: weight of a."),
                io.Float.Input("weight_b", default=1.0, min=-10.0, max=10.0, step=0.05, tooltip="add: weight of b."),
            ],
            outputs=[Directions.Output(display_name="directions")],
        )  # fmt: skip

    @classmethod
    def execute(cls, a, b, how, weight_a, weight_b) -> io.NodeOutput:
        """Combine."""
        sets = [directions_from_payload(a), directions_from_payload(b)]
        return io.NodeOutput(directions_to_payload(combine(sets, how=how, weights=[weight_a, weight_b])))


class HSpaceSaveDirections(io.ComfyNode):
    """Directions to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSaveDirections",
            display_name="Save Directions",
            category="HSpace/edit",
            description="Writes directions to models/hspace_directions as one safetensors file, for Load Directions and for others.",
            search_aliases=["export direction", "store direction"],
            is_output_node=True,
            inputs=[
                Directions.Input("directions", tooltip="From Discover Region Directions or Load Directions."),
                io.String.Input(
                    "name",
                    default="mouth",
                    tooltip="File name, without folder or ending. An existing file is kept; the new one gets a number.",
                ),
            ],
            outputs=[io.String.Output(display_name="file")],
        )

    @classmethod
    def execute(cls, directions, name) -> io.NodeOutput:
        """Save."""
        target = safe_output_path(paths.directions_root(), name, ".safetensors")
        save_directions(target, directions_from_payload(directions))
        return io.NodeOutput(target.name, ui=ui.PreviewText(f"saved as {target.name}"))


class HSpaceLoadDirections(io.ComfyNode):
    """Directions from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceLoadDirections",
            display_name="Load Directions",
            category="HSpace/edit",
            description="Reads directions saved with Save Directions (or shared by someone else); they fit the model they were found on.",
            search_aliases=["import direction"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=paths.direction_choices(),
                    tooltip="A file in models/hspace_directions; those that come with the pack begin with 'hspace/'.",
                )
            ],
            outputs=[Directions.Output(display_name="directions")],
        )

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Load again when the file has changed."""
        return paths.file_stamp(paths.direction_path(file))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Load."""
        return io.NodeOutput(directions_to_payload(load_directions(paths.direction_path(file))))


NODES = [
    HSpaceSteer,
    HSpaceResumeTrajectory,
    HSpaceRenderTrajectory,
    HSpaceSelectDirections,
    HSpaceCombineDirections,
    HSpaceSaveDirections,
    HSpaceLoadDirections,
]
