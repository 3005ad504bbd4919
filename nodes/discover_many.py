"""Discover, for more than one picture or step: directions followed down the noise, averaged over pictures, carried to another."""

from ..core.discover.average import WAYS, average
from ..core.discover.find import discover
from ..core.discover.track import track
from ..core.discover.transport import transport
from ..core.payload import basis_from_payload, directions_from_payload, directions_to_payload, trajectory_from_payload
from .dials import HOW, LOOK, MODE, MODEL, REPORT, SIGMA, SPECTRUM, THROUGH, default_sigma, looked_at, pixels, plotted
from .host.api import Basis, Directions, Trajectory, io, ui
from .host.denoiser import Prompts, with_denoiser
from .host.fingerprint import model_fingerprint
from .host.images import one_mask
from .host.progress import reporter

_LEVELS = 4.0  # how far above and below the automatic level the steps reach, as a factor


class HSpaceTrackDirections(io.ComfyNode):
    """A direction for every step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrackDirections",
            display_name="Track Directions",
            category="HSpace/discover",
            description="Region directions at several noise levels, followed from one to the next: each step is then edited along its own direction.",
            search_aliases=["per step directions", "timestep", "warm start", "haas"],
            inputs=[
                *LOOK,
                *MODE,
                io.Float.Input(
                    "sigma_start",
                    default=0.0,
                    min=0.0,
                    max=200.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Noisiest level. 0: four times the automatic level of Discover Region Directions.",
                ),
                io.Float.Input(
                    "sigma_end",
                    default=0.0,
                    min=0.0,
                    max=200.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Last level. 0: a quarter of the automatic level.",
                ),
                io.Int.Input(
                    "levels",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="How many levels between the two. Each costs about as much as one discovery.",
                ),
                THROUGH,
                *HOW,
            ],
            outputs=[Directions.Output(display_name="directions"), SPECTRUM, REPORT],
        )

    @classmethod
    def execute(
        cls,
        model,
        trajectory,
        k,
        mode,
        tau,
        rank,
        sigma_start,
        sigma_end,
        levels,
        layer="middle",
        image_index=0,
        iterations=8,
        seed=0,
        mask=None,
        vae=None,
    ) -> io.NodeOutput:
        """Follow them."""
        path = trajectory_from_payload(trajectory)
        path.check_model(model_fingerprint(model))
        path = path.image(image_index).to(model.load_device)
        height, width = path.states.shape[-2:]
        middle = default_sigma(model, max(height, width))
        high, low = sigma_start or middle * _LEVELS, sigma_end or middle / _LEVELS
        if low > high:
            raise ValueError(f"sigma_start must be at least sigma_end, got {high:g} and {low:g}; sigma_start is the noisy end")
        steps = sorted({path.nearest(high * (low / high) ** (i / max(levels - 1, 1))) for i in range(levels)})
        region, report = one_mask(mask, *pixels(model, path)), reporter(model, None, preview=False)

        def work(denoiser):
            return track(
                denoiser,
                path,
                region,
                steps,
                k=k,
                mode=mode,
                rank=rank,
                tau=tau,
                layer=layer,
                iterations=iterations,
                seed=seed,
                callback=report,
            )

        found, facts = with_denoiser(model, path.x0.shape, Prompts.of(path), work, gradients=True, vae=vae)
        lines = [
            f"{found.method}",
            *(f"sigma {float(s):.3g}: {n} Jacobian products" for s, n in zip(found.sigmas, facts["products"], strict=True)),
        ]
        lines += (
            [f"#{i + 1} turns least to most: cosine {c.min():.2f} to {c.max():.2f}" for i, c in enumerate(facts["cosines"].T)]
            if len(facts["cosines"])
            else []
        )
        plot = plotted(found)
        return io.NodeOutput(directions_to_payload(found), plot, "\n".join(lines), ui=ui.PreviewImage(plot, cls=cls))


class HSpaceGlobalDirections(io.ComfyNode):
    """One set for many pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceGlobalDirections",
            display_name="Global Directions",
            category="HSpace/discover",
            description="Region directions of every picture of a batch (or of a list), brought into one order and sign and averaged: what a region can do in general.",
            search_aliases=["average directions", "frechet mean", "procrustes", "batch", "folder"],
            is_input_list=True,
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip="From Invert Image: a batch of pictures, or a list of trajectories."),
                io.Mask.Input("mask", optional=True, tooltip="One region for all pictures, or one mask a picture, in the same order."),
                *MODE,
                io.Combo.Input(
                    "how",
                    options=list(WAYS),
                    tooltip="match: pairs the directions of the pictures and averages each. subspace: averages what they span together.",
                ),
                SIGMA,
                THROUGH,
                *(i for i in HOW if i.id != "image_index"),
            ],
            outputs=[Directions.Output(display_name="directions"), SPECTRUM, REPORT],
        )

    @classmethod
    def execute(
        cls, model, trajectory, k, mode, tau, rank, how, sigma, layer=("middle",), iterations=(8,), seed=(0,), mask=None, vae=(None,)
    ) -> io.NodeOutput:
        """Discover on each, then average."""
        model, layer, iterations = model[0], layer[0], iterations[0]
        paths = [path.image(i) for path in map(trajectory_from_payload, trajectory) for i in range(path.states.shape[1])]
        masks = [m[None] for part in mask or () for m in part.reshape(-1, *part.shape[-2:])]
        if len(masks) not in (0, 1, len(paths)):
            raise ValueError(f"mask must be one for all, or one a picture: {len(paths)} pictures, {len(masks)} masks")
        masks = masks * len(paths) if len(masks) == 1 else masks or [None] * len(paths)
        report = reporter(model, None, preview=False)
        sets = []
        for path, own in zip(paths, masks, strict=True):
            prompts, x, level, region = looked_at(model, path, own, sigma[0])
            options = {"layer": layer, "iterations": iterations, "seed": seed[0], "callback": report}

            def work(denoiser, x=x, level=level, region=region, options=options):
                return discover(denoiser, x, level, region, k=k[0], mode=mode[0], rank=rank[0], tau=tau[0], **options)[0]

            sets.append(with_denoiser(model, x.shape, prompts, work, gradients=True, vae=vae[0]))
        found, agreement = average(sets, how[0])
        lines = [
            f"{found.method}, {sets[0].method}",
            *(f"#{i + 1}: mean cosine with a picture's own {c.mean():.2f}, least {c.min():.2f}" for i, c in enumerate(agreement.T)),
        ]
        plot = plotted(found)
        return io.NodeOutput(directions_to_payload(found), plot, "\n".join(lines), ui=ui.PreviewImage(plot, cls=cls))


class HSpaceTransportDirections(io.ComfyNode):
    """Directions of one picture for another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTransportDirections",
            display_name="Transport Directions",
            category="HSpace/discover",
            description="Carries directions found on one picture over to another: keeps the part that the other picture's region answers to.",
            search_aliases=["parallel transport", "transfer direction", "other image"],
            inputs=[
                Directions.Input("directions", tooltip="Found on the first picture, or loaded."),
                Basis.Input("basis", tooltip="Region Basis of the other picture."),
            ],
            outputs=[Directions.Output(display_name="directions"), REPORT],
        )

    @classmethod
    def execute(cls, directions, basis) -> io.NodeOutput:
        """Project."""
        moved, kept = transport(directions_from_payload(directions), basis_from_payload(basis))
        text = "\n".join(
            f"{moved.label(i)}: {float(share):.0%} of its length kept, gain {moved.gain[0, i]:.3g}, leak {moved.leak[0, i]:.3g}"
            for i, share in enumerate(kept)
        )
        return io.NodeOutput(directions_to_payload(moved), text, ui=ui.PreviewText(text))


NODES = [HSpaceTrackDirections, HSpaceGlobalDirections, HSpaceTransportDirections]
