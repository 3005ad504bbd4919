"""Train: networks as a whole (DiffusionCLIP) and the rectifier, fitted beside a frozen MODEL inside the graph."""

import copy
from pathlib import Path

from ..core.edit.rectifier_io import TrainedRectifier, rectifier_from_payload, rectifier_to_payload, save_rectifier
from ..core.edit.weights import difference, thinned
from ..core.edit.weights_io import save_weights, to_lora
from ..core.networks.rectifier import Rectifier as Net
from ..core.networks.vp import VPDenoiser
from ..core.payload import trajectory_from_payload
from ..core.train.diffusionclip import finetune
from ..core.train.memory import needed
from ..core.train.rectifier import predicted, train_edit, train_reconstruction
from .dials import MODEL, VAE, default_sigma
from .host import paths
from .host.api import Embedder, LoraModel, Rectifier, Trajectory, io, ui
from .host.denoiser import Prompts, check_network
from .host.fingerprint import model_fingerprint
from .host.model_edits import cast_weight, check_pixels
from .host.pictures import Decoder
from .host.training import Run, gradients, networks_of, ordinary_path, with_training
from .train import EMBEDDER, PICTURES, SEED, SOURCE, TARGET


class HSpaceTrainDiffusionCLIP(io.ComfyNode):
    """All weights of a network."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrainDiffusionCLIP",
            display_name="Train DiffusionCLIP",
            category="HSpace/train",
            description="Fine-tunes a copy of a pixel network so that pictures, sampled back from their noise, move to the target prompt. Gives the difference of the weights as a LORA_MODEL, also for the stock Load LoRA Model and Save LoRA Weights.",
            search_aliases=["diffusionclip", "fine-tune", "clip guided"],
            inputs=[
                io.Model.Input("model", tooltip="Load Face Model or Load Pixel Diffusion Model."),
                Trajectory.Input("trajectory", tooltip=f"{PICTURES} Its noisiest level is the paper's t0 (300 to 600 of 1000)."),
                Embedder.Input("embedder", tooltip=EMBEDDER),
                io.String.Input("source", default="face", tooltip=SOURCE),
                io.String.Input("target", default="face with red hair", tooltip=TARGET),
                io.Int.Input("steps", default=6, min=1, max=100, tooltip="Steps of the sampling chain in training (6 in the paper)."),
                io.Int.Input("epochs", default=5, min=1, max=100, tooltip="How often every picture is seen. More than 5 ruins pictures with the efficient way."),
                io.Int.Input("batch", default=4, min=1, max=64, tooltip="Pictures at a time."),
                io.Float.Input("lr", default=0.0001, min=1e-8, max=1.0, step=1e-6, round=1e-9, tooltip="Learning rate: 8e-6 for networks of 256 pixels, 1e-4 for the face model."),
                io.Boolean.Input("efficient", default=True, tooltip="A step of the optimiser at every step of the chain, with the memory of one. Off: one loss at its end, through all of it."),
                io.Int.Input("rank", default=16, min=0, max=512, tooltip="Keep the difference as thin matrices of this rank: small files. 0 keeps all of it."),
                io.Float.Input("clip_weight", default=3.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Pull towards the target."),
                io.Float.Input("l1_weight", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Hold on to the picture."),
                io.Float.Input("growth", default=1.3, min=0.1, max=10.0, step=0.1, advanced=True, optional=True, tooltip="The learning rate is multiplied by this after every epoch."),
                io.Float.Input("blur", default=0.02, min=0.0, max=0.2, step=0.005, round=0.001, advanced=True, optional=True, tooltip="Blur of the pictures before the embedder sees them, a share of their side. Raise it if fine patterns appear, lower it if small features such as a mouth smear."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip=SEED),
            ],
            outputs=[
                LoraModel.Output(display_name="lora"),
                io.Image.Output(display_name="loss"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, trajectory, embedder, source, target, steps, epochs, batch, lr, efficient, rank, clip_weight=3.0, l1_weight=1.0, blur=0.02, growth=1.3,
        seed=0,
    ) -> io.NodeOutput:  # fmt: skip
        """Train."""
        check_network(model)
        network = check_pixels(model, "DiffusionCLIP")
        path = trajectory_from_payload(trajectory)
        path.check_model(model_fingerprint(model))
        settings = {
            "method": "diffusionclip", "space": embedder.space, "source": source, "target": target,
            "steps": steps, "epochs": epochs, "batch": batch, "lr": lr, "efficient": efficient, "clip_weight": clip_weight,
            "l1_weight": l1_weight, "blur": blur, "growth": growth, "seed": seed,
        }  # fmt: skip

        def work(denoiser):
            guides = networks_of(embedder, model.load_device)
            own, plain = ordinary_path(path, model.load_device), network.denoiser(denoiser.fingerprint)
            with gradients(*guides):
                trial = copy.deepcopy(network.net).requires_grad_(True)
                tuned = VPDenoiser(trial, plain.schedule, plain.prediction, plain.fingerprint)

                def once():
                    x = own.noisiest[:1]
                    for _ in range(1 if efficient else steps):
                        x = tuned(x, x.new_full((1,), float(own.sigmas[0])))
                    return embedder.embed_image(x).sum()

                run.check_memory(needed(once, min(batch, path.x0.shape[0]), trial, guides))
                trial.requires_grad_(False)

                def keep(best) -> Path:
                    found = difference(best, network.net.state_dict(), plain.fingerprint.partition("+")[0], f"{source} > {target}")
                    return save_weights(run.kept(paths.TUNED), thinned(found, rank)[0] if rank else found)

                run.keep = keep
                return finetune(
                    plain, own, embedder, source, target, steps=steps, efficient=efficient, epochs=epochs, batch=batch, lr=lr, growth=growth,
                    clip_weight=clip_weight, l1_weight=l1_weight, blur=blur, seed=seed, callback=run.step, begin=run.begin,
                )  # fmt: skip

        with Run(model, f"{source} > {target}, fine-tuned", path, settings) as run:
            found = with_training(model, (min(batch, path.x0.shape[0]), *path.x0.shape[1:]), Prompts.of(path), work)
        kept = 1.0
        if rank:
            found, kept = thinned(found, rank)
        curve, text = run.summary(
            f"; rank {rank or 'full'} keeps {kept:.0%} of the squared difference; from sigma {float(path.sigmas[0]):.3g} down"
        )
        return io.NodeOutput(to_lora(found), curve, text, ui=ui.PreviewImage(curve, cls=cls))


class HSpaceTrainRectifier(io.ComfyNode):
    """Stage 1."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrainRectifier",
            display_name="Train Rectifier",
            category="HSpace/train",
            description="Trains a hypernetwork that sees the picture and the current prediction and corrects the kernels of the decoder, so that sampling rebuilds the picture (High-Fidelity Diffusion-based Image Editing, stage 1).",
            search_aliases=["hifi", "high fidelity", "hypernetwork", "reconstruction"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip=f"{PICTURES} On a fine grid (50 steps in the paper)."),
                io.Int.Input("steps", default=1000, min=1, max=1_000_000, tooltip="Of the optimiser."),
                io.Int.Input("batch", default=4, min=1, max=64, tooltip="States at a time."),
                io.Float.Input("lr", default=0.001, min=1e-7, max=1.0, step=1e-4, round=1e-7, tooltip="Learning rate: 1e-3 for the face model, 1e-4 for large networks."),
                io.Int.Input("code", default=32, min=4, max=512, advanced=True, optional=True, tooltip="Width of what the branches see; parameters grow with it."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip=SEED),
            ],
            outputs=[
                Rectifier.Output(display_name="rectifier"),
                io.Image.Output(display_name="loss"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, trajectory, steps, batch, lr, code=32, seed=0) -> io.NodeOutput:
        """Train."""
        check_network(model)
        path = trajectory_from_payload(trajectory)
        path.check_model(model_fingerprint(model))
        start = float(path.sigmas[0])
        settings = {
            "method": "rectifier", "steps": steps, "batch": batch, "lr": lr, "code": code, "seed": seed,
        }  # fmt: skip

        def work(denoiser):
            own = ordinary_path(path, model.load_device)
            levels = model.get_model_object("model_sampling").sigmas
            net = Net.of(denoiser.net, levels, channels=path.x0.shape[1], code=code, seed=seed).to(own.states.device)

            def made(net: Net) -> TrainedRectifier:
                return TrainedRectifier(net, denoiser.fingerprint.partition("+")[0], False, start, "reconstruction", {"steps": steps})

            run.keep = lambda best: _kept(run, net, best, made)
            run.check_memory(needed(lambda: _once(denoiser, net, own), min(batch, path.x0.shape[0]), net, [denoiser.net]))
            found = train_reconstruction(
                denoiser, denoiser.net, own, net, steps=steps, batch=batch, lr=lr, seed=seed, weight_of=cast_weight, callback=run.step,
                begin=run.begin,
            )  # fmt: skip
            return made(found)

        with Run(model, "rectifier", path, settings) as run:
            found = with_training(model, (min(batch, path.x0.shape[0]), *path.x0.shape[1:]), Prompts.of(path), work)
        curve, text = run.summary(f"; {found.parameters:,} parameters")
        return io.NodeOutput(rectifier_to_payload(found), curve, text, ui=ui.PreviewImage(curve, cls=cls))


class HSpaceTrainRectifierEdit(io.ComfyNode):
    """Stage 2."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrainRectifierEdit",
            display_name="Train Rectifier Edit",
            category="HSpace/train",
            description="A copy of a rectifier learns an edit from two prompts. Every step starts from the original trajectory, so that errors do not add up over the steps (High-Fidelity Diffusion-based Image Editing, stage 2).",
            search_aliases=["hifi", "high fidelity", "hypernetwork", "clip guided"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip=PICTURES),
                Rectifier.Input("rectifier", tooltip="From Train Rectifier or Load Rectifier."),
                Embedder.Input("embedder", tooltip=EMBEDDER),
                io.String.Input("source", default="face", tooltip=SOURCE),
                io.String.Input("target", default="smiling face", tooltip=TARGET),
                io.Float.Input("sigma_start", default=0.0, min=0.0, max=200.0, step=0.01, round=0.001, tooltip="Noisiest level of the edit. 0: t = 500 of the paper, rescaled to the picture's size; t = 700 for Stable Diffusion."),
                io.Int.Input("steps", default=500, min=1, max=1_000_000, tooltip="Of the optimiser."),
                io.Int.Input("batch", default=4, min=1, max=64, tooltip="States at a time."),
                io.Float.Input("lr", default=0.001, min=1e-7, max=1.0, step=1e-4, round=1e-7, tooltip="Learning rate: 1e-3 for the face model, 1e-5 to 1e-4 for large networks."),
                io.Float.Input("clip_weight", default=3.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Pull towards the target."),
                io.Float.Input("l1_weight", default=1.0, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Hold on to the picture."),
                io.Float.Input("blur", default=0.0, min=0.0, max=0.2, step=0.005, round=0.001, advanced=True, optional=True, tooltip="Blur of the pictures before the embedder sees them, a share of their side. Raise it if fine patterns appear, lower it if small features such as a mouth smear."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip=SEED),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
            ],
            outputs=[
                Rectifier.Output(display_name="edit"),
                io.Image.Output(display_name="loss"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, trajectory, rectifier, embedder, source, target, sigma_start, steps, batch, lr, clip_weight=3.0, l1_weight=1.0, blur=0.0, seed=0,
        vae=None,
    ) -> io.NodeOutput:  # fmt: skip
        """Train."""
        check_network(model)
        path, first = trajectory_from_payload(trajectory), rectifier_from_payload(rectifier)
        path.check_model(model_fingerprint(model))
        first.check_model(model_fingerprint(model))
        if first.edit:
            raise ValueError(f"rectifier must be one trained to rebuild, {first.label!r} was trained for an edit; connect Train Rectifier")
        level = sigma_start or default_sigma(model, max(path.states.shape[-2:]))
        settings = {
            "method": "rectifier edit", "space": embedder.space, "source": source, "target": target,
            "sigma_start": level, "steps": steps, "batch": batch, "lr": lr, "clip_weight": clip_weight, "l1_weight": l1_weight, "blur": blur, "seed": seed,
            "rectifier": sum(float(p.sum()) for p in first.rectifier.parameters()),
        }  # fmt: skip

        def work(denoiser):
            own, decode = ordinary_path(path, model.load_device), Decoder(denoiser.patcher, vae, path.x0.shape)
            guides = [*decode.networks, *networks_of(embedder, model.load_device)]
            with gradients(*guides):
                net = copy.deepcopy(rectifier_from_payload(rectifier).rectifier).to(own.states.device)
                net.requires_grad_(True)

                def once():
                    return embedder.embed_image(decode(_once(denoiser, net, own))).sum()

                def made(net: Net) -> TrainedRectifier:
                    label, facts = f"{source} > {target}", {"source": source, "target": target, "steps": steps}
                    return TrainedRectifier(net, first.fingerprint, True, level, label, facts)

                run.keep = lambda best: _kept(run, net, best, made)
                batched = min(batch, path.x0.shape[0])
                run.check_memory(needed(once, batched, net, [denoiser.net, *guides]))
                found = train_edit(
                    denoiser, denoiser.net, own, net, embedder, source, target, sigma_start=level, steps=steps, batch=batch, lr=lr,
                    clip_weight=clip_weight, l1_weight=l1_weight, blur=blur, seed=seed, decode=decode, weight_of=cast_weight, callback=run.step,
                    begin=run.begin,
                )  # fmt: skip
                return made(found)

        with Run(model, f"{source} > {target}, rectifier", path, settings) as run:
            found = with_training(model, (min(batch, path.x0.shape[0]), *path.x0.shape[1:]), Prompts.of(path), work)
        curve, text = run.summary(f"; {found.parameters:,} parameters, from sigma {level:.3g} down")
        return io.NodeOutput(rectifier_to_payload(found), curve, text, ui=ui.PreviewImage(curve, cls=cls))


def _kept(run: Run, net: Net, best, made) -> Path:
    """Write the best state of a run that broke off."""
    net.load_state_dict(best)
    return save_rectifier(run.kept(paths.RECTIFIER), made(net))


def _once(denoiser, net, own):
    """One rectified prediction of one picture."""
    return predicted(denoiser, denoiser.net, net, own.noisiest[:1], own.x0[:1], float(own.sigmas[0]), cast_weight)[0]


NODES = [HSpaceTrainDiffusionCLIP, HSpaceTrainRectifier, HSpaceTrainRectifierEdit]
