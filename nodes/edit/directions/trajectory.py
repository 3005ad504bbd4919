"""Edit: an inverted picture and an edited MODEL become the edited picture, here or in any sampler."""

from ....core.edit.directions.idle import idle_dials
from ....core.edit.directions.steer import SteerOptions, edited_steps, steer_trajectory
from ....core.edit.noise.exact import check_plain
from ....core.payload import trajectory_from_payload
from ....core.sample import known_reconstruction, reconstruct
from ...dials import seed_input, share_input, sigma_input, trajectory_input, vae_input
from ...host.api import Node, io
from ...host.model.fingerprint import model_fingerprint
from ...host.model.images import decode
from ...host.model.latents import latents_out
from ...host.model.prompts import Prompts
from ...host.model.run import with_denoiser
from ...host.patches.model_edits import edited, edited_at, schedules_of
from ...host.patches.sampler_only import refuse_sampler_only
from ...host.patches.steering import edits_of
from ...host.progress import reporter
from ...host.samplers.trajectory import resume_sampler
from ...host.ui import show_picture
from ...looking import mask_of
from ...seeds import EACH
from ...unused import refuse_unused


def _check_way_back(trajectory, fresh: float, asymmetric: bool) -> None:
    check_plain(trajectory)
    if fresh or asymmetric:
        trajectory.check_euler("fresh noise (eta, boost)" if fresh else "asymmetric")
    if fresh and trajectory.noising == "flow":
        raise ValueError(
            "fresh noise (eta, boost) is drawn as x0 + sigma n, which a flow model does not know; set it to 0"
        )


def _asymmetric(tooltip: str):
    return io.Boolean.Input("asymmetric", default=False, tooltip=tooltip)


def _eta(tooltip: str):
    return share_input("eta", 0.0, tooltip, advanced=True)


class HSpaceResumeTrajectory(Node):
    """Gives a stored trajectory as SAMPLER and SIGMAS for stock samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceResumeTrajectory",
            display_name="Resume Trajectory",
            category="HSpace/edit/directions",
            description="Samples back from an inverted image in the stock SamplerCustomAdvanced. The sampler starts from the stored state, so noise and latent inputs do not matter.",
            search_aliases=["ddim", "asyrp", "asymmetric", "sampler", "resume"],
            inputs=[
                trajectory_input(),
                _asymmetric(
                    "Edits only the predicted image and not the term that leads back to the noise (Asyrp). The strength is rescaled so that both have the same first-order effect. It is for edits of h: Steer and trained shifts."
                ),
                _eta(
                    f"0 is deterministic. Above 0, fresh noise is added (the paper of RBE uses 0.5): inside the window of the edits on the MODEL, or in every step if they have no window. If all edits are at strength 0, none is added. The seed of the noise input draws it. {EACH}"
                ),
                io.Boolean.Input(
                    "direct",
                    default=True,
                    advanced=True,
                    optional=True,
                    tooltip="With Pair Conditioning and Pair Latent, keeps the source row of every pair on the stored states (DirectInversion). Off, the source is sampled like the others. It has no effect on rows that are not pairs, or if eta is above 0.",
                ),
            ],
            outputs=[io.Sampler.Output(display_name="sampler"), io.Sigmas.Output(display_name="sigmas")],
        )

    @classmethod
    def execute(cls, trajectory, asymmetric, eta=0.0, direct=True) -> io.NodeOutput:
        trajectory = trajectory_from_payload(trajectory)
        _check_way_back(trajectory, eta, asymmetric)
        return io.NodeOutput(resume_sampler(trajectory, asymmetric, eta, direct), trajectory.sigmas.float())


class HSpaceRenderTrajectory(Node):
    """Renders edits of an inverted picture in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceRenderTrajectory",
            display_name="Render Trajectory",
            category="HSpace/edit/directions",
            description="Samples an inverted image back through a steered MODEL and gives the edited picture beside the unedited reconstruction. Sampling starts at the first edited level if the inversion is exact enough, and takes fewer steps then.",
            search_aliases=["edit image", "generate", "ddim sampling", "apply edit"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model comes from Steer, a rectifier or fine-tuned weights. Without them the node gives the reconstruction. Edits of attention (Prompt-to-Prompt, Inject Features) and Proximal CFG are refused: those need Resume Trajectory.",
                ),
                trajectory_input(),
                _asymmetric(
                    "Edits only the predicted image and not the term that leads back to the noise (Asyrp). It is for edits of h: Steer and trained shifts."
                ),
                _eta(
                    "The share of fresh noise in every edited step, or in all steps if the edit has no window. 0 is deterministic. It acts for every kind of edit."
                ),
                seed_input(f"The seed of the fresh noise, if eta or boost is above 0. {EACH}", advanced=True),
                share_input(
                    "protect",
                    0.0,
                    "How firmly everything outside the mask is held at the original, whatever the kind of edit. 0 is off, 1 is exactly.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="The region that may change. 'protect' needs it."),
                vae_input(),
                sigma_input(
                    "boost",
                    0.0,
                    "Below this noise level every step draws its noise anew: Asyrp's quality boosting, for every kind of edit. 0 is off.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "lagged",
                    default=False,
                    advanced=True,
                    optional=True,
                    tooltip="Does as the released RBE code: the direction is added to the h of the step before, which changes the picture by itself. That code has eta 0.5. It is for edits of h.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="edited"),
                io.Image.Output(
                    display_name="reconstruction", tooltip="The same picture without steering. Compare with this one."
                ),
                io.Latent.Output(display_name="latent"),
            ],
        )

    @classmethod
    def execute(
        cls, model, trajectory, asymmetric, eta=0.0, seed=0, protect=0.0, mask=None, vae=None, boost=0.0, lagged=False
    ) -> io.NodeOutput:
        trajectory = trajectory_from_payload(trajectory).to(model.load_device)
        trajectory.check_model(model_fingerprint(model))
        _check_way_back(trajectory, eta or boost, asymmetric)
        edits, acts_at = edits_of(model), edited_at(model.model_options)
        _check_edits(cls, model, trajectory, asymmetric, lagged)
        if protect and mask is None:
            raise ValueError(
                "'protect' holds everything outside a mask, but no mask is connected; connect one or set protect to 0"
            )
        region = mask_of(model, trajectory, mask)
        options = SteerOptions(asymmetric, eta, seed, lagged, protect, region, boost=boost, start="auto")
        report = reporter(model, len(trajectory.sigmas) - 1)

        changed = edited_steps(trajectory, edits, acts_at)

        def work(denoiser):
            result = steer_trajectory(
                edited(denoiser, model), trajectory, edits, options, edited=acts_at, callback=report
            )
            # Without an edit both are one picture, bit for bit.
            plain = known_reconstruction(trajectory) if any(changed) else result
            return result, reconstruct(denoiser, trajectory).rebuilt if plain is None else plain

        result, rebuilt = with_denoiser(model, trajectory.x0.shape, Prompts.of(trajectory), work)
        latent = {"samples": latents_out(model, result).cpu()}
        dials = {"eta": eta, "boost": boost, "protect": protect, "asymmetric": asymmetric, "lagged": lagged}
        idle = idle_dials(trajectory.sigmas.tolist(), changed, dials)
        if mask is not None and not protect:
            idle.append("mask does nothing: protect is 0")
        picture = decode(model, vae, result)
        shown = show_picture(picture, cls, "\n".join(idle))
        return io.NodeOutput(picture, decode(model, vae, rebuilt), latent, ui=shown)


def _check_edits(node: type[Node], model, trajectory, asymmetric: bool, lagged: bool) -> None:
    """Refuse what sampling back here would leave out.

    Raises:
        ValueError: edits of attention or of guidance, dials of edits of h without one, or a window without a step.
    """
    refuse_sampler_only(model, "use Resume Trajectory in SamplerCustomAdvanced")
    if not edits_of(model):
        why = "belongs to edits of h, and no Steer node is on this MODEL"
        refuse_unused(node, why, instead="connect Steer", asymmetric=asymmetric, lagged=lagged)
    for schedule in schedules_of(model.model_options):
        schedule.check_levels(trajectory.sigmas.tolist())


NODES = [HSpaceResumeTrajectory, HSpaceRenderTrajectory]
