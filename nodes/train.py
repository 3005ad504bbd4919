"""Train: small networks fitted to a frozen MODEL, inside the graph."""

import time

from ..core.edit.delta_io import delta_to_payload
from ..core.networks.delta import new_delta
from ..core.paths import safe_output_path
from ..core.payload import trajectory_from_payload
from ..core.plots import loss_plot
from ..core.train.asyrp import train_asyrp
from ..core.train.fit import OPTIMISERS, Fit
from ..core.train.state import load_state, save_state
from .dials import MODEL, VAE, default_sigma
from .host import paths
from .host.api import Delta, Embedder, Trajectory, io, ui
from .host.clip import HostEmbedder
from .host.denoiser import Prompts
from .host.fingerprint import model_fingerprint
from .host.pictures import Decoder
from .host.progress import training_reporter
from .host.training import gradients, networks_of, ordinary_path, with_training

_SAVE_EVERY = 60.0  # seconds


class HSpaceTrainAsyrp(io.ComfyNode):
    """Asyrp's shift of h."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrainAsyrp",
            display_name="Train Asyrp",
            category="HSpace/train",
            description="Trains a small block that shifts h so that pictures move from one prompt to another. The model itself stays as it is.",
            search_aliases=["asyrp", "h-space", "clip guided", "text guided training", "delta h"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip="Invert Image of the training pictures (100 in the paper; 16 do for the face world), with the same MODEL."),
                Embedder.Input("embedder", tooltip="From Load Face Embedder, or CLIP Embedder for photographs."),
                io.String.Input("source", default="face", tooltip="What the pictures show now."),
                io.String.Input("target", default="smiling face", tooltip="What they are to show."),
                io.Float.Input("sigma_edit", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, tooltip="Lowest noise level that is edited (t_edit). 0: t = 500 of the paper, rescaled to the picture's size."),
                io.Int.Input("epochs", default=2, min=1, max=1000, tooltip="How often every picture is seen."),
                io.Int.Input("batch", default=4, min=1, max=64, tooltip="Pictures at a time."),
                io.Float.Input("lr", default=0.002, min=1e-6, max=10.0, step=1e-4, round=1e-6, tooltip="Learning rate: about 0.002 with adam, 0.5 with sgd as in the released code."),
                io.Combo.Input("optimiser", options=list(OPTIMISERS), tooltip="adam is quick; sgd as in the released code."),
                io.Float.Input("clip_weight", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Pull towards the target."),
                io.Float.Input("l1_weight", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Hold on to the picture (3 in the paper)."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip="Same seed, same weights (on a CPU)."),
                io.String.Input("name", default="", advanced=True, optional=True, tooltip="If given, the run is stored under this name once a minute, and running the node again with the same settings goes on from there."),
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
        cls, model, trajectory, embedder, source, target, sigma_edit, epochs, batch, lr, optimiser, clip_weight=1.0, l1_weight=1.0, seed=0,
        name="", vae=None,
    ) -> io.NodeOutput:  # fmt: skip
        """Train."""
        path = trajectory_from_payload(trajectory)
        path.check_model(model_fingerprint(model))
        level = sigma_edit or default_sigma(model, max(path.states.shape[-2:]))
        settings = {
            "model": model_fingerprint(model), "source": source, "target": target, "sigma_edit": level, "epochs": epochs, "batch": batch, "lr": lr,
            "optimiser": optimiser, "clip_weight": clip_weight, "l1_weight": l1_weight, "seed": seed, "pictures": path.states.shape[1],
        }  # fmt: skip
        stored = safe_output_path(paths.edits_root(), name, paths.STATE, overwrite=True) if name else None
        report, runs, saved, started = training_reporter(model, f"{source} > {target}"), [], [time.monotonic()], time.monotonic()

        def begin(fit: Fit) -> None:
            runs.append(fit)
            if stored is not None and stored.exists():
                load_state(stored, fit, settings)

        def step(state: dict) -> None:
            report(state)
            if stored is not None and state["whole"] and time.monotonic() - saved[0] > _SAVE_EVERY:
                saved[0] = time.monotonic()
                save_state(stored, runs[0], settings)

        def work(denoiser):
            if isinstance(embedder, HostEmbedder):
                embedder.load()
            decode = Decoder(model, vae, path.x0.shape)
            own = ordinary_path(path, model.load_device)
            sigma = own.states.new_ones(1)
            channels = denoiser.split(own.noisiest[:1], sigma * float(own.sigmas[0])).h.shape[1]
            net = getattr(model.model.diffusion_model, "net", model.model.diffusion_model)
            delta = new_delta(net, channels, model.get_model_object("model_sampling").sigmas)
            with gradients(*decode.networks, *networks_of(embedder)):
                return train_asyrp(
                    denoiser, own, delta, embedder, source, target, sigma_edit=level, epochs=epochs, batch=batch, lr=lr, optimiser=optimiser,
                    clip_weight=clip_weight, l1_weight=l1_weight, seed=seed, decode=decode, callback=step, begin=begin,
                )  # fmt: skip

        shape = (min(batch, path.x0.shape[0]), *path.x0.shape[1:])
        found = with_training(model, shape, Prompts.of(path), work)
        fit = runs[0]
        if stored is not None:
            stored.unlink(missing_ok=True)
        curve = loss_plot(fit.losses, fit.total, found.label)
        text = (
            f"{found.label}: {fit.total} steps on {path.states.shape[1]} pictures in {time.monotonic() - started:.0f} s, loss {fit.losses[0]:.4f} > "
            f"{sum(fit.losses[-20:]) / len(fit.losses[-20:]):.4f}; edits {found.steps} of {len(path.sigmas) - 1} steps, down to sigma {level:.3g}"
        )
        return io.NodeOutput(delta_to_payload(found), curve, text, ui=ui.PreviewImage(curve, cls=cls))


NODES = [HSpaceTrainAsyrp]
