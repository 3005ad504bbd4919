"""Discover: a trajectory and a mask become directions; the atlas shows what they do."""

import torch

from ..core.discover.find import discover, krylov_basis, region_result
from ..core.edit.steer import Edit, steer_trajectory
from ..core.faces.regressor import load_regressor
from ..core.measure.names import likely_words
from ..core.measure.names import names as name_ends
from ..core.payload import basis_from_payload, basis_to_payload, directions_from_payload, directions_to_payload, trajectory_from_payload
from ..core.plots import strip
from .dials import (
    HOW,
    LOOK,
    MODE,
    MODEL,
    REPORT,
    SIGMA,
    SPECTRUM,
    THROUGH,
    VAE,
    WINDOW_END,
    WINDOW_START,
    edit_schedule,
    looked_at,
    plotted,
)
from .host import paths
from .host.api import Basis, Directions, Embedder, Trajectory, io, ui
from .host.denoiser import Prompts, check_network, edits_of, is_latent, with_denoiser
from .host.fingerprint import model_fingerprint
from .host.images import decode, one_mask
from .host.progress import reporter
from .host.training import networks_of

_TOGETHER = 32  # pictures rendered in one batch


class HSpaceDiscoverRegion(io.ComfyNode):
    """Directions of h that change the masked region and leave the rest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceDiscoverRegion",
            display_name="Discover Region Directions",
            category="HSpace/discover",
            description=(
                "Finds, without labels and without training, the directions of the U-Net's bottleneck that change the masked region most "
                "and the rest least: singular vectors of the masked Jacobian of the decoder."
            ),
            search_aliases=["jacobian", "rbe", "region based editing", "unsupervised", "h-space", "semantic directions"],
            inputs=[*LOOK, *MODE, SIGMA, THROUGH, *HOW],
            outputs=[Directions.Output(display_name="directions"), SPECTRUM, REPORT],
        )

    @classmethod
    def execute(
        cls, model, trajectory, k, mode, tau, rank, sigma, layer="middle", image_index=0, iterations=8, seed=0, mask=None, vae=None
    ) -> io.NodeOutput:
        """Discover."""
        prompts, x, level, region = looked_at(model, trajectory_from_payload(trajectory).image(image_index), mask, sigma)
        report = reporter(model, None, preview=False)

        def work(denoiser):
            return discover(
                denoiser,
                x,
                level,
                region,
                layer=layer,
                k=k,
                mode=mode,
                rank=rank,
                tau=tau,
                iterations=iterations,
                seed=seed,
                callback=report,
            )

        found, facts = with_denoiser(model, x.shape, prompts, work, gradients=True, vae=vae)
        plot = plotted(found)
        return io.NodeOutput(directions_to_payload(found), plot, facts["text"], ui=ui.PreviewImage(plot, cls=cls))


class HSpaceRegionBasis(io.ComfyNode):
    """The costly half of discovery, once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceRegionBasis",
            display_name="Region Basis",
            category="HSpace/discover",
            description=(
                "Everything about a region that needs the network, computed once: connect Directions From Basis, whose dials (mode, tau, rank, k) "
                "then answer at once. Discover Region Directions does both in one node."
            ),
            search_aliases=["krylov", "jacobian", "instant directions"],
            inputs=[
                *LOOK,
                io.Int.Input("max_k", default=5, min=1, max=64, tooltip="How many directions will be asked for at most."),
                io.Int.Input(
                    "max_rank",
                    default=20,
                    min=0,
                    max=128,
                    tooltip="Largest rank of post and constrained; 0 saves time if neither is wanted.",
                ),
                SIGMA,
                THROUGH,
                *HOW,
            ],
            outputs=[Basis.Output(display_name="basis"), REPORT],
        )

    @classmethod
    def execute(
        cls, model, trajectory, max_k, max_rank, sigma, layer="middle", image_index=0, iterations=8, seed=0, mask=None, vae=None
    ) -> io.NodeOutput:
        """Compute it."""
        prompts, x, level, region = looked_at(model, trajectory_from_payload(trajectory).image(image_index), mask, sigma)
        report = reporter(model, None, preview=False)

        def work(denoiser):
            return krylov_basis(
                denoiser, x, level, region, layer=layer, k=max_k, size=2 * max_rank + max_k if max_rank else 0, outside_k=max_k,
                iterations=iterations, seed=seed, callback=report,
            )  # fmt: skip

        basis = with_denoiser(model, x.shape, prompts, work, gradients=True, vae=vae)
        text = (
            f"{len(basis.krylov.q)} vectors at layer {layer}, sigma {level:.3g}: {basis.products} Jacobian products, {basis.seconds:.1f} s"
        )
        return io.NodeOutput(basis_to_payload(basis), text, ui=ui.PreviewText(text))


class HSpaceBasisDirections(io.ComfyNode):
    """The cheap half of discovery, as often as you like."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceBasisDirections",
            display_name="Directions From Basis",
            category="HSpace/discover",
            description="Directions out of a Region Basis in any mode, without the network: turn the dials and run again, it takes milliseconds.",
            search_aliases=["mode", "tau", "rank", "instant directions"],
            inputs=[
                Basis.Input("basis", tooltip="From Region Basis."),
                *MODE,
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Another region of the same picture; without one, that of the basis. Best if it lies inside that.",
                ),
            ],
            outputs=[Directions.Output(display_name="directions"), SPECTRUM],
        )

    @classmethod
    def execute(cls, basis, k, mode, tau, rank, mask=None) -> io.NodeOutput:
        """Small algebra."""
        whole = basis_from_payload(basis)
        found = region_result(whole, mode=mode, k=k, rank=rank, tau=tau, mask=one_mask(mask, *whole.image[1:]))
        plot = plotted(found)
        return io.NodeOutput(directions_to_payload(found), plot, ui=ui.PreviewImage(plot, cls=cls))


class HSpaceDirectionAtlas(io.ComfyNode):
    """Every direction at several strengths, as one picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceDirectionAtlas",
            display_name="Direction Atlas",
            category="HSpace/discover",
            description="Renders each direction at strengths from -2a to +2a in one labelled sheet: the quickest way to see what they do.",
            search_aliases=["grid", "contact sheet", "traversal", "directions preview"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip=MODEL),
                Trajectory.Input("trajectory", tooltip="From Invert Image, made with the same MODEL."),
                Directions.Input("directions", tooltip="From Discover Region Directions or Load Directions."),
                io.Float.Input("strength", default=15.0, min=0.1, max=1000.0, step=0.5, tooltip="a: the sheet goes from -2a to +2a. Directions have unit length."),
                io.Int.Input("columns", default=5, min=3, max=15, step=2, tooltip="How many strengths, the middle one being 0."),
                io.Int.Input("first", default=1, min=1, max=64, advanced=True, optional=True, tooltip="First direction shown."),
                io.Int.Input("count", default=5, min=1, max=64, tooltip="How many directions."),
                io.Float.Input("sigma_start", default=0.0, min=0.0, max=1000.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip=WINDOW_START),
                io.Float.Input("sigma_end", default=0.1, min=0.0, max=1000.0, step=0.01, round=0.001, advanced=True, optional=True, tooltip=WINDOW_END),
                io.Int.Input("image_index", default=0, min=0, max=4095, advanced=True, optional=True, tooltip="Which image of a batch."),
                io.String.Input("title", default="", tooltip="Written before the number of each direction, for example: mouth."),
                io.Vae.Input("vae", optional=True, tooltip=VAE),
                io.Combo.Input(
                    "names", options=["off", "face world"], optional=True,
                    tooltip="face world: write beside each direction which known factors its two ends move (64x64 faces of this pack only).",
                ),
                Embedder.Input("embedder", optional=True, tooltip="If connected, the words towards which each end moves are written beside it, in place of 'names'."),
                io.String.Input("words", default="", advanced=True, optional=True, tooltip="With an embedder: the words to choose from, separated by commas. Empty: a list of its own."),
            ],
            outputs=[
                io.Image.Output(display_name="sheet"),
                io.Image.Output(display_name="images", tooltip="All pictures of the sheet as a batch, row by row, without labels."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model,
        trajectory,
        directions,
        strength,
        columns,
        count,
        first=1,
        sigma_start=0.0,
        sigma_end=0.1,
        image_index=0,
        title="",
        vae=None,
        names="off",
        embedder=None,
        words="",
    ) -> io.NodeOutput:
        """Render the sheet."""
        path = trajectory_from_payload(trajectory).image(image_index).to(model.load_device)
        path.check_model(model_fingerprint(model))
        found = directions_from_payload(directions)
        found.check_model(path.fingerprint, check_network(model))
        if first > len(found):
            raise ValueError(f"first must be at most {len(found)}, the number of directions connected, got {first}")
        found = found.select(list(range(first - 1, min(first - 1 + count, len(found)))))
        strengths = torch.linspace(-2 * strength, 2 * strength, columns | 1).tolist()
        variants = [(i, a) for i in range(len(found)) for a in strengths if a]
        together = _TOGETHER if not is_latent(model) else 1
        parts = [variants[i : i + together] for i in range(0, len(variants), together)]
        report = reporter(model, (len(parts) + 1) * (len(path.sigmas) - 1), preview=False)
        before = edits_of(model)

        def work(denoiser):
            plain = steer_trajectory(denoiser, path, before, callback=report)
            edited = []
            for part in parts:
                weights = tuple(tuple(a if i == j else 0.0 for j in range(len(found))) for i, a in part)
                edit = Edit(found, edit_schedule(found, 1.0, sigma_start, sigma_end), weights)
                edited.append(steer_trajectory(denoiser, path.repeat(len(part)), [*before, edit], start="window", callback=report))
            return torch.cat([plain, *edited])

        shape = (together, *path.states.shape[2:])
        done = decode(model, vae, torch.cat([with_denoiser(model, shape, Prompts.of(path), work), path.x0]))
        plain, left, original = done[0], iter(done[1:-1]), done[-1]
        images = [plain if a == 0 else next(left) for _ in range(len(found)) for a in strengths]
        shown = [p.movedim(-1, 0) * 2 - 1 for p in (original, *images)]
        said: list[list[str]] = [[]] * len(found)
        if names != "off" or embedder is not None:
            ends = torch.stack([images[i * len(strengths) + j] for i in range(len(found)) for j in (len(strengths) - 1, 0)]).movedim(-1, 1)
            base = plain.movedim(-1, 0)
            if embedder is None:
                texts = name_ends(load_regressor(paths.WEIGHTS / paths.REGRESSOR), base, ends)
            else:
                networks_of(embedder, base.device)
                texts = likely_words(embedder, base * 2 - 1, ends * 2 - 1, [w.strip() for w in words.split(",") if w.strip()])
            said = [[f"+ {texts[2 * i]}", f"- {texts[2 * i + 1]}"] for i in range(len(found))]
        rows = [
            (
                "\n".join([f"{title} {found.label(i)}".strip(), _facts(found, i), *said[i]]),
                [shown[0], *shown[1 + i * len(strengths) : 1 + (i + 1) * len(strengths)]],
            )
            for i in range(len(found))
        ]
        sheet = strip(rows, ["original", *(f"{a:+g}" if a else "reconstruction" for a in strengths)])
        return io.NodeOutput(sheet, torch.stack(images), ui=ui.PreviewImage(sheet, cls=cls))


def _facts(found, i: int) -> str:
    gain, leak = float(found.gain[:, i].mean()), float(found.leak[:, i].mean())
    return f"gain {gain:.3g}, leak {leak:.2g}" if gain else ""


NODES = [HSpaceDiscoverRegion, HSpaceRegionBasis, HSpaceBasisDirections, HSpaceDirectionAtlas]
