"""Discover, the other published ways: for comparison, in the same sockets."""

from functools import partial

from ...core.discover.difference import check_comparable, check_levels, difference
from ...core.discover.loco import PRESETS, loco
from ...core.discover.pca import BATCH, h_of, pca
from ...core.discover.pullback import pullback
from ...core.payload import directions_from_payload, directions_to_payload, trajectory_from_payload
from ..dials import HOW, LAYER, LOOK, SIGMA, SPECTRUM, THROUGH, count_input, cut_model_input
from ..host.api import Directions, Node, Trajectory, io
from ..host.model.fingerprint import model_fingerprint
from ..host.model.prompts import Prompts
from ..host.model.run import with_denoiser
from ..looking import Place, default_sigma, directions_output, layer_in, place_in, sigma_at, stored_level
from ..unused import only_with, refuse_unused

OWN = "values above"


LOCO, PULLBACK, PCA = "LOCO Edit (x)", "pullback (x)", "PCA of h"


_USED = {  # of the inputs that not every method has
    LOCO: {"mask", "rank", "preset", "vae", "seed", "iterations", "image_index"},
    PULLBACK: {"layer", "seed", "iterations", "image_index"},
    PCA: {"layer"},
}


def _acting(dial):
    """Mark a dial that not every method has, or that a preset sets."""
    methods = [method for method, used in _USED.items() if dial.id in used]
    return only_with(dial, method=methods, **({"preset": [OWN]} if dial.id == "rank" else {}))


class HSpaceBaselineDirections(Node):
    """Discovers directions as other papers do (LOCO Edit, pullback, PCA)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceBaselineDirections",
            display_name="Baseline Directions",
            category="HSpace/discover",
            description=(
                "Finds directions as other papers do, to compare with Discover Region Directions. LOCO Edit and the"
                " pullback basis look for directions of the noisy picture itself (use Edit State). PCA looks for "
                "those in which h varies over a batch (use Steer)."
            ),
            search_aliases=["loco edit", "pullback", "park", "haas", "pca", "riemannian", "comparison"],
            inputs=[
                *LOOK,
                io.Combo.Input(
                    "method",
                    options=[LOCO, PULLBACK, PCA],
                    tooltip="LOCO finds directions of x with a mask. pullback finds directions of x without one. PCA finds directions of h without a mask and needs a batch of pictures.",
                ),
                only_with(count_input("k", 5, "The number of directions."), preset=[OWN]),
                _acting(
                    count_input(
                        "rank",
                        5,
                        "The number of outside vectors that LOCO projects away (5 or 10 in the paper).",
                        least=0,
                    )
                ),
                only_with(SIGMA, preset=[OWN]),
                THROUGH,
                *(_acting(dial) for dial in HOW),
                _acting(
                    io.Combo.Input(
                        "preset",
                        options=[OWN, *PRESETS],
                        advanced=True,
                        optional=True,
                        tooltip="For LOCO, a data set takes level, k and rank of the paper's unsupervised script, in place of the values above. The host cannot load DeepFloyd IF itself; its values are kept for saved workflows.",
                    )
                ),
            ],
            outputs=[
                Directions.Output(display_name="directions"),
                SPECTRUM,
                io.Float.Output(
                    display_name="strength", tooltip="LOCO's strength for Edit State: 8 if no preset is chosen."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        trajectory,
        method,
        k,
        rank,
        sigma,
        layer="middle",
        image_index=0,
        iterations=8,
        seed=0,
        mask=None,
        vae=None,
        preset=OWN,
    ) -> io.NodeOutput:
        strength = PRESETS["CelebA-HQ"].strength
        used = _USED[method]
        given = {
            "mask": mask,
            "rank": rank,
            "preset": preset,
            "vae": vae,
            "layer": layer,
            "seed": seed,
            "iterations": iterations,
            "image_index": image_index,
        }
        refuse_unused(
            cls, f"has no part in {method}", **{name: value for name, value in given.items() if name not in used}
        )
        if method == LOCO and preset != OWN:
            refuse_unused(cls, f"is set by the preset {preset}", k=k, rank=rank, sigma=sigma)
            t, k, rank, strength = PRESETS[preset]
            sigma = sigma_at(model, 1000 * t, max(trajectory_from_payload(trajectory).states.shape[-2:]))
        trajectory = trajectory_from_payload(trajectory)
        k_of_mask = k if method == LOCO else 0
        place = place_in(model, trajectory.image(image_index), mask, sigma, k_of_mask, vae)
        if method == LOCO:
            work = partial(loco, k=k, rank=rank, iterations=2 * iterations, seed=seed)
            directions = place.look(work, vae)
        elif method == PULLBACK:
            work = partial(pullback, k=k, layer=layer_in(model, layer), iterations=2 * iterations, seed=seed)
            directions, _ = place.look(
                lambda denoiser, x, level, _, callback: work(denoiser, x, level, callback=callback)
            )
        else:
            directions = _components(place, trajectory, k, layer_in(model, layer))
        return directions_output(cls, directions, strength, note=place.note)


def _components(place: Place, trajectory, k: int, layer: str):
    """Directions in which h varies over all pictures of a trajectory."""
    states = trajectory.states[trajectory.nearest(place.level)].to(place.x)
    shape = (min(len(states), BATCH), *states.shape[1:])
    work = partial(pca, states=states, sigma=place.level, k=k, layer=layer)
    return with_denoiser(place.model, shape, place.prompts, work)


class HSpaceMeanDifference(Node):
    """Computes a direction from examples."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceMeanDifference",
            display_name="Mean Difference Direction",
            category="HSpace/discover",
            description="Computes the direction of h from one set of pictures to another (smiling and not, say), with other directions kept out if you like.",
            search_aliases=["supervised direction", "labels", "contrast", "haas", "vector arithmetic"],
            inputs=[
                cut_model_input(),
                Trajectory.Input(
                    "positive",
                    tooltip="Trajectories of pictures that have the attribute, from Invert Image (100 in the paper).",
                ),
                Trajectory.Input(
                    "negative", tooltip="Trajectories of pictures that lack it, from Invert Image on the same sigmas."
                ),
                Directions.Input(
                    "without", optional=True, tooltip="Directions of the same layer to keep out of the result."
                ),
                SIGMA,
                LAYER,
            ],
            outputs=[
                Directions.Output(display_name="directions"),
                io.Float.Output(display_name="distance", tooltip="The strength that carries one mean onto the other."),
            ],
        )

    @classmethod
    def execute(cls, model, positive, negative, sigma, layer="middle", without=None) -> io.NodeOutput:
        trajectories = [trajectory_from_payload(p) for p in (positive, negative)]
        layer = layer_in(model, layer)
        for one in trajectories:
            one.check_model(model_fingerprint(model))
        level = sigma or default_sigma(model, max(trajectories[0].states.shape[-2:]))
        check_comparable(*trajectories)
        steps = [stored_level(one, level)[0] for one in trajectories]
        levels = [float(one.sigmas[i]) for one, i in zip(trajectories, steps, strict=True)]
        check_levels(levels)
        means = []
        for one, i in zip(trajectories, steps, strict=True):  # each under its own prompts
            x = one.states[i].to(model.load_device)
            shape = (min(len(x), BATCH), *x.shape[1:])
            means.append(
                with_denoiser(model, shape, Prompts.of(one), lambda denoiser, x=x: h_of(denoiser, x, levels[0], layer))
            )
        excluded = None if without is None else directions_from_payload(without)
        directions = difference(means[0], means[1], levels[0], model_fingerprint(model), layer=layer, without=excluded)
        return io.NodeOutput(directions_to_payload(directions), float(directions.spectrum[0]))


NODES = [HSpaceBaselineDirections, HSpaceMeanDifference]
