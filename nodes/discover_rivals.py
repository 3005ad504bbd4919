"""Discover, the other published ways: for comparison, in the same sockets."""

from ..core.discover.difference import difference
from ..core.discover.loco import PRESETS, loco
from ..core.discover.pca import BATCH, h_of, pca
from ..core.discover.pullback import pullback
from ..core.edit.state import WAYS, edit_state
from ..core.payload import directions_from_payload, directions_to_payload, trajectory_from_payload, trajectory_to_payload
from .dials import HOW, LOOK, MODEL, SIGMA, SPECTRUM, THROUGH, default_sigma, looked_at, plotted, sigma_at
from .host.api import Directions, Trajectory, io, ui
from .host.denoiser import Prompts, with_denoiser
from .host.fingerprint import model_fingerprint
from .host.progress import reporter

OWN = "values above"
LOCO, PULLBACK, PCA = "LOCO Edit (x)", "pullback (x)", "PCA of h"


class HSpaceBaselineDirections(io.ComfyNode):
    """LOCO Edit, pullback and PCA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceBaselineDirections",
            display_name="Baseline Directions",
            category="HSpace/discover",
            description=(
                "Directions as other papers find them, to compare with Discover Region Directions: LOCO Edit and the pullback basis look for "
                "directions of the noisy picture itself (use Edit State), PCA for those in which h varies over a batch (use Steer)."
            ),
            search_aliases=["loco edit", "pullback", "park", "haas", "pca", "riemannian", "comparison"],
            inputs=[
                *LOOK,
                io.Combo.Input("method", options=[LOCO, PULLBACK, PCA], tooltip="LOCO: masked, in x. pullback: no mask, in x. PCA: no mask, in h, needs a batch of pictures."),
                io.Int.Input("k", default=5, min=1, max=64, tooltip="How many directions."),
                io.Int.Input("rank", default=5, min=0, max=64, tooltip="LOCO: vectors of the outside that are projected away (5 or 10 in the paper)."),
                SIGMA,
                THROUGH,
                *HOW,
                io.Combo.Input("preset", options=[OWN, *PRESETS], advanced=True, optional=True, tooltip="LOCO: level, k and rank that the paper uses on this data set, in place of the values above."),
            ],
            outputs=[
                Directions.Output(display_name="directions"),
                SPECTRUM,
                io.Float.Output(display_name="strength", tooltip="LOCO: the paper's, for Edit State (that of the preset, or 8)."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, trajectory, method, k, rank, sigma, layer="middle", image_index=0, iterations=8, seed=0, mask=None, vae=None, preset=OWN
    ) -> io.NodeOutput:
        """Find them."""
        strength = PRESETS["CelebA-HQ"].strength
        if method == LOCO and preset != OWN:
            t, k, rank, strength = PRESETS[preset]
            sigma = sigma_at(model, 1000 * t, max(trajectory_from_payload(trajectory).states.shape[-2:]))
        prompts, x, level, region = looked_at(model, trajectory_from_payload(trajectory).image(image_index), mask, sigma)
        report = reporter(model, None, preview=False)
        path = trajectory_from_payload(trajectory)

        def work(denoiser):
            if method == LOCO:
                return loco(denoiser, x, level, region, k=k, rank=rank, iterations=2 * iterations, seed=seed, callback=report)
            if method == PULLBACK:
                return pullback(denoiser, x, level, k=k, layer=layer, iterations=2 * iterations, seed=seed, callback=report)[0]
            return pca(denoiser, path.states[path.nearest(level)].to(x), level, k=k, layer=layer)

        shape = (min(path.x0.shape[0], BATCH), *x.shape[1:]) if method == PCA else x.shape
        found = with_denoiser(model, shape, prompts, work, gradients=method != PCA, vae=vae if method == LOCO else None)
        plot = plotted(found)
        return io.NodeOutput(directions_to_payload(found), plot, strength, ui=ui.PreviewImage(plot, cls=cls))


class HSpaceMeanDifference(io.ComfyNode):
    """A direction by example."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceMeanDifference",
            display_name="Mean Difference Direction",
            category="HSpace/discover",
            description="The direction of h from one set of pictures to another (smiling and not, say), optionally with other directions kept out.",
            search_aliases=["supervised direction", "labels", "contrast", "haas", "vector arithmetic"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("positive", tooltip="Invert Image of pictures that have it (100 in the paper)."),
                Trajectory.Input("negative", tooltip="Invert Image of pictures that lack it, on the same sigmas."),
                Directions.Input("without", optional=True, tooltip="Directions to keep out of the result, of the same layer."),
                SIGMA,
                next(i for i in HOW if i.id == "layer"),
            ],
            outputs=[
                Directions.Output(display_name="directions"),
                io.Float.Output(display_name="distance", tooltip="Strength that carries one mean onto the other."),
            ],
        )

    @classmethod
    def execute(cls, model, positive, negative, sigma, layer="middle", without=None) -> io.NodeOutput:
        """Subtract the means."""
        paths = [trajectory_from_payload(p) for p in (positive, negative)]
        for path in paths:
            path.check_model(model_fingerprint(model))
        level = sigma or default_sigma(model, max(paths[0].states.shape[-2:]))
        steps = [path.nearest(level) for path in paths]
        levels = [float(path.sigmas[i]) for path, i in zip(paths, steps, strict=True)]
        if abs(levels[0] - levels[1]) > 1e-3 * levels[0]:
            raise ValueError(f"both sets must be inverted on the same sigmas; the nearest levels are {levels[0]:.3g} and {levels[1]:.3g}")
        means = []
        for path, i in zip(paths, steps, strict=True):  # each under its own prompts
            x = path.states[i].to(model.load_device)
            shape = (min(len(x), BATCH), *x.shape[1:])
            means.append(with_denoiser(model, shape, Prompts.of(path), lambda denoiser, x=x: h_of(denoiser, x, levels[0], layer)))
        out = None if without is None else directions_from_payload(without)
        found = difference(means[0], means[1], levels[0], model_fingerprint(model), layer=layer, without=out)
        return io.NodeOutput(directions_to_payload(found), float(found.spectrum[0]))


class HSpaceEditState(io.ComfyNode):
    """Directions of x, applied."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceEditState",
            display_name="Edit State",
            category="HSpace/edit",
            description="Moves the noisy picture of a trajectory along a direction of x (LOCO Edit, pullback). Render Trajectory then gives the edited picture.",
            search_aliases=["loco edit", "pullback", "x-space guidance", "latent edit"],
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip="From Invert Image, made with the same MODEL."),
                Directions.Input("directions", tooltip="From Baseline Directions, with a method in x."),
                io.Float.Input("strength", default=8.0, min=-1000.0, max=1000.0, step=0.1, tooltip="step: the whole length (LOCO on CelebA-HQ: 8). guidance: factor of each repeat (pullback: 0.05 to 1.6)."),
                io.Int.Input("direction", default=1, min=1, max=64, tooltip="Which one, counted from 1."),
                io.Combo.Input("how", options=list(WAYS), tooltip="step: one step along the direction (LOCO). guidance: repeated small steps (pullback)."),
                io.Int.Input("repeats", default=16, min=1, max=128, advanced=True, optional=True, tooltip="Of the guidance."),
            ],
            outputs=[Trajectory.Output(display_name="trajectory")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, trajectory, directions, strength, direction, how, repeats=16) -> io.NodeOutput:
        """Move it."""
        path = trajectory_from_payload(trajectory).to(model.load_device)
        path.check_model(model_fingerprint(model))
        found = directions_from_payload(directions)

        def work(denoiser):
            return edit_state(denoiser, path, found, strength, index=direction - 1, how=how, repeats=repeats)

        return io.NodeOutput(trajectory_to_payload(with_denoiser(model, path.x0.shape, Prompts.of(path), work).to("cpu")))


NODES = [HSpaceBaselineDirections, HSpaceMeanDifference, HSpaceEditState]
