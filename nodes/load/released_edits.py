"""Load: the released files of trained edits."""

from ...core.files.asyrp import asyrp_to_payload, load_released_asyrp
from ...core.files.checkpoint import load_denoiser
from ...core.files.diffusionclip import released_name, to_lora
from ...core.networks.weight_difference import difference, thinned
from ..dials import TRAINED_SIGMA, count_input, sigma_input
from ..host import paths
from ..host.api import Asyrp, LoraModel, io
from ..host.model.fingerprint import model_fingerprint
from ..host.model.traits import check_unet
from ..host.patches.model_edits import check_pixels
from ..looking import default_sigma
from .files import CheckpointFile


class HSpaceLoadAsyrp(CheckpointFile):
    """A released Asyrp checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadAsyrp",
            display_name="Load Asyrp Checkpoint",
            category="HSpace/load/trained",
            description="Reads a checkpoint of the released Asyrp code (.pth) for the pixel model it was trained on. Files are read without running code.",
            search_aliases=["asyrp", "pretrained", "smiling_LC_CelebA_HQ"],
            is_experimental=True,  # no released file was at hand yet, only its layout with random weights
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The base that the checkpoint was trained on, from Load Pixel Diffusion Model: SDEdit's celeba_hq.ckpt for its faces.",
                ),
                cls.choice(),
                count_input("index", 1, "The number of the edit in the file, counted from 1. Most files hold one."),
                sigma_input(
                    "sigma_edit",
                    0.0,
                    "The lowest noise level that is edited. The file does not say it. 0 takes t = 500, as the released code does for faces.",
                    most=TRAINED_SIGMA,
                    advanced=True,
                ),
                count_input(
                    "steps",
                    40,
                    "The number of steps of its training, from 999 to 0 (ngen in its name). A run of n steps adds the shift multiplied by steps / n, as the released code does.",
                    most=1000,
                    advanced=True,
                ),
                sigma_input(
                    "sigma_boost",
                    0.0,
                    "A noise level that is stored with the edit, from Asyrp Levels. From this level down the paper draws noise anew (t_boost; 0.7 at 256 pixels is t = 200).",
                    most=TRAINED_SIGMA,
                    advanced=True,
                ),
            ],
            outputs=[Asyrp.Output(display_name="trained"), io.String.Output(display_name="label")],
        )

    @classmethod
    def execute(cls, model, checkpoint, index, sigma_edit=0.0, steps=40, sigma_boost=0.0) -> io.NodeOutput:
        """Read it for this model."""
        check_unet(model)
        net = getattr(model.model.diffusion_model, "net", None)
        if net is None:
            raise ValueError("Asyrp's checkpoints belong to pixel models; connect Load Pixel Diffusion Model")
        channels, levels = net.config.channels[-1], model.get_model_object("model_sampling").sigmas
        level = sigma_edit or default_sigma(model, 256)
        edits = load_released_asyrp(
            paths.checkpoint_path(checkpoint),
            net,
            levels,
            model_fingerprint(model),
            channels=channels,
            sigma_edit=level,
            steps=steps,
            sigma_boost=sigma_boost,
        )
        if index > len(edits):
            raise ValueError(f"this checkpoint holds {len(edits)} edits, got index {index}")
        return io.NodeOutput(asyrp_to_payload(edits[index - 1]), edits[index - 1].label)


class HSpaceLoadDiffusionCLIP(CheckpointFile):
    """A released DiffusionCLIP checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadDiffusionCLIP",
            display_name="Load DiffusionCLIP Checkpoint",
            category="HSpace/load/trained",
            description="Reads a fine-tuned network of the released DiffusionCLIP code (such as curly_hair_t401.pth), as a difference from the model it was made from. Files are read without running code.",
            search_aliases=["diffusionclip", "pretrained", "curly_hair_t401"],
            is_experimental=True,  # no released file was at hand yet, only its layout with random weights
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The network that it was fine-tuned from, from Load Pixel Diffusion Model, such as celeba_hq.ckpt.",
                ),
                cls.choice(),
                count_input(
                    "rank",
                    0,
                    "The difference is approximated by low-rank matrices of this rank, for a small file. 0 keeps all of it.",
                    least=0,
                    most=512,
                    advanced=True,
                ),
            ],
            outputs=[
                LoraModel.Output(display_name="lora"),
                io.Float.Output(
                    display_name="sigma",
                    tooltip="The noise level of its t0, up to which pictures are to be inverted. It goes into sigma_max of KarrasScheduler. It is 0 if the name does not tell.",
                ),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(cls, model, checkpoint, rank=0) -> io.NodeOutput:
        """Read it and take the difference."""
        base = check_pixels(model, "DiffusionCLIP")
        if model.patches:
            raise ValueError(
                "the difference is taken to the network itself; connect the MODEL without LoRA or other weight patches"
            )
        tuned = load_denoiser(paths.checkpoint_path(checkpoint))
        label, t0 = released_name(checkpoint)
        weights = difference(
            tuned.net.state_dict(), base.net.state_dict(), model_fingerprint(model).partition("+")[0], label
        )
        share = 1.0
        if rank:
            weights, share = thinned(weights, rank)
        sigma = float(base.schedule.sigma(t0)) if t0 else 0.0
        text = f"{label}: {len(weights.full) + len(weights.thin)} weights differ; {f't0 {t0}, sigma {sigma:.3g}' if t0 else 'its name has no t0'}"
        return io.NodeOutput(to_lora(weights), sigma, text + (f"; rank {rank} keeps {share:.0%}" if rank else ""))


NODES = [HSpaceLoadAsyrp, HSpaceLoadDiffusionCLIP]
