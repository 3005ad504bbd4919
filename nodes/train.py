"""Train: Asyrp's shift of h, fitted to a frozen MODEL inside the graph."""

from pathlib import Path

from ..core.edit.delta import TrainedDelta
from ..core.edit.delta_io import delta_to_payload, save_delta
from ..core.networks.delta import new_delta
from ..core.payload import trajectory_from_payload
from ..core.plots import levels_plot
from ..core.train.asyrp import train_asyrp
from ..core.train.directional import text_direction
from ..core.train.fit import OPTIMISERS
from ..core.train.levels import edit_levels, lpips_distance, lpips_missing
from ..core.train.memory import needed
from .dials import MODEL, VAE, default_sigma
from .host import paths
from .host.api import Delta, Embedder, Trajectory, io, ui
from .host.denoiser import Prompts, with_denoiser
from .host.fingerprint import model_fingerprint
from .host.model import unet_of
from .host.pictures import Decoder
from .host.progress import reporter
from .host.training import Run, gradients, networks_of, ordinary_path, with_training

PICTURES = "Invert Image of the training pictures (100 in the papers; 16 do for the face world), with the same MODEL."
EMBEDDER = "From Load Face Embedder, or CLIP Embedder for photographs."
SOURCE, TARGET = "What the pictures show now.", "What they are to show."
SEED = "Same seed, same weights (on a CPU)."


class HSpaceTrainAsyrp(io.ComfyNode):
    """Asyrp's shift of h."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrainAsyrp",
            display_name="Train Asyrp",
            category="HSpace/train",
            description="Trains a small block that shifts h so that pictures move from one prompt to another. The model itself stays as it is. A cancelled run goes on when it is queued again.",
            search_aliases=["asyrp", "h-space", "clip guided", "text guided training", "delta h"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip=PICTURES),
                Embedder.Input("embedder", tooltip=EMBEDDER),
                io.String.Input("source", default="face", tooltip=SOURCE),
                io.String.Input("target", default="smiling face", tooltip=TARGET),
                io.Float.Input("sigma_edit", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, tooltip="Lowest noise level that is edited (t_edit), for example from Asyrp Levels. 0: t = 500 of the paper, rescaled to the picture's size; t = 700 for Stable Diffusion."),
                io.Int.Input("epochs", default=2, min=1, max=1000, tooltip="How often every picture is seen."),
                io.Int.Input("batch", default=4, min=1, max=64, tooltip="Pictures at a time."),
                io.Float.Input("lr", default=0.002, min=1e-6, max=10.0, step=1e-4, round=1e-6, tooltip="Learning rate: about 0.002 with adam, 0.5 with sgd as in the released code."),
                io.Combo.Input("optimiser", options=list(OPTIMISERS), tooltip="adam is quick; sgd as in the released code."),
                io.Float.Input("sigma_boost", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip="Kept with the result: from this level down the paper draws noise anew (t_boost). Set 'boost' of Render Trajectory to it."),
                io.Float.Input("clip_weight", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Pull towards the target."),
                io.Float.Input("l1_weight", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Hold on to the picture (3 in the paper)."),
                io.Float.Input("blur", default=0.0, min=0.0, max=0.2, step=0.005, round=0.001, advanced=True, optional=True, tooltip="Blur of the pictures before the embedder sees them, a share of their side. Raise it if fine patterns appear, lower it if small features such as a mouth smear."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip=SEED),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
            ],
            outputs=[
                Delta.Output(display_name="trained"),
                io.Image.Output(display_name="loss"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, trajectory, embedder, source, target, sigma_edit, epochs, batch, lr, optimiser, sigma_boost=0.0, clip_weight=1.0,
        l1_weight=1.0, blur=0.0, seed=0, vae=None,
    ) -> io.NodeOutput:  # fmt: skip
        """Train."""
        path = trajectory_from_payload(trajectory)
        path.check_model(model_fingerprint(model))
        level = sigma_edit or default_sigma(model, max(path.states.shape[-2:]))
        settings = {
            "method": "asyrp", "space": embedder.space, "source": source, "target": target, "sigma_edit": level, "epochs": epochs,
            "batch": batch, "lr": lr, "optimiser": optimiser, "clip_weight": clip_weight, "l1_weight": l1_weight, "blur": blur, "seed": seed,
        }  # fmt: skip

        def work(denoiser):
            decode = Decoder(denoiser.patcher, vae, path.x0.shape)
            guides = [*decode.networks, *networks_of(embedder, model.load_device)]
            own = ordinary_path(path, model.load_device)
            one, sigma = own.noisiest[:1], own.states.new_full((1,), float(own.sigmas[0]))
            part = denoiser.split(one, sigma)
            delta = new_delta(unet_of(model), part.h.shape[1], model.get_model_object("model_sampling").sigmas, seed).to(one.device)
            edited = sum(s >= level * (1 - 1e-5) for s in path.sigmas[:-1].tolist()) or 1

            def keep(best) -> Path:
                delta.load_state_dict(best)
                made = TrainedDelta(
                    delta,
                    denoiser.fingerprint.partition("+")[0],
                    level,
                    edited,
                    sigma_boost,
                    "middle",
                    f"{source} > {target}",
                    {"sigma_start": float(path.sigmas[0])},
                )
                return save_delta(run.kept(paths.ASYRP), made)

            run.keep = keep
            with gradients(*guides):

                def once():
                    shown = (part.smooth or part.decode)(part.h + delta(part.h.float(), sigma).to(part.h))
                    return embedder.embed_image(decode(shown)).sum()

                run.check_memory(needed(once, min(batch, path.x0.shape[0]), delta, [denoiser.net, *guides]))
                return train_asyrp(
                    denoiser, own, delta, embedder, source, target, sigma_edit=level, sigma_boost=sigma_boost, epochs=epochs, batch=batch, lr=lr,
                    optimiser=optimiser, clip_weight=clip_weight, l1_weight=l1_weight, blur=blur, seed=seed, decode=decode, callback=run.step,
                    begin=run.begin,
                )  # fmt: skip

        with Run(model, f"{source} > {target}", path, settings) as run:
            found = with_training(model, (min(batch, path.x0.shape[0]), *path.x0.shape[1:]), Prompts.of(path), work)
        curve, text = run.summary(f"; edits {found.steps} of {len(path.sigmas) - 1} steps, down to sigma {level:.3g}")
        return io.NodeOutput(delta_to_payload(found), curve, text, ui=ui.PreviewImage(curve, cls=cls))


class HSpaceAsyrpLevels(io.ComfyNode):
    """The paper's rule for t_edit and t_boost."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceAsyrpLevels",
            display_name="Asyrp Levels",
            category="HSpace/train",
            description="Where Asyrp is to edit and to draw noise anew, by its rule: while the prediction is far from the picture (LPIPS 0.33 times the likeness of the prompts), and where the noisy picture is near it. Without the lpips package a stand-in (1 - SSIM) is used, and the report says so.",
            search_aliases=["t_edit", "t_boost", "lpips"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip=PICTURES),
                Embedder.Input("embedder", tooltip=EMBEDDER),
                io.String.Input("source", default="face", tooltip=SOURCE),
                io.String.Input("target", default="smiling face", tooltip=TARGET),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
            ],
            outputs=[
                io.Float.Output(display_name="sigma_edit"),
                io.Float.Output(display_name="sigma_boost"),
                io.Image.Output(display_name="plot"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, trajectory, embedder, source, target, vae=None) -> io.NodeOutput:
        """Measure."""
        path = trajectory_from_payload(trajectory).to(model.load_device)
        path.check_model(model_fingerprint(model))
        networks_of(embedder, model.load_device)
        _, cosine = text_direction(embedder, source, target)
        report = reporter(model, len(path.sigmas) - 1)

        def work(denoiser):
            decode = Decoder(denoiser.patcher, vae, path.x0.shape)
            return edit_levels(denoiser, path, cosine, distance=lpips_distance(model.load_device), decode=decode, callback=report)

        found = with_denoiser(model, path.x0.shape, Prompts.of(path), work)
        how = "LPIPS" if found.lpips else f"1 - SSIM in place of LPIPS ({lpips_missing()})"
        picture = levels_plot(found.sigmas, found.predicted, found.noisy, found.sigma_edit, found.sigma_boost, how)
        text = (
            f"edit down to sigma {found.sigma_edit:.3g}, draw noise from {found.sigma_boost:.3g} down; prompts' cosine {cosine:.2f}; {how}"
        )
        return io.NodeOutput(found.sigma_edit, found.sigma_boost, picture, text, ui=ui.PreviewImage(picture, cls=cls))


NODES = [HSpaceTrainAsyrp, HSpaceAsyrpLevels]
