"""Discover: what every direction does, in one sheet."""

import torch

from ...core.edit.directions.atlas import Atlas, render_variants
from ...core.faces.names import name_ends, name_factors
from ...core.faces.regressor import load_regressor
from ...core.payload import directions_from_payload, directions_to_payload, trajectory_from_payload
from ..dials import (
    IMAGE_INDEX,
    WINDOW_END,
    WINDOW_START,
    count_input,
    cut_model_input,
    directions_input,
    edit_schedule,
    sigma_input,
    text_input,
    trajectory_input,
    vae_input,
)
from ..host import paths
from ..host.api import Embedder, Node, io, ui
from ..host.kept import Kept, content_key, path_key
from ..host.memory import rows_at_once
from ..host.model.copies import directions_for
from ..host.model.fingerprint import model_fingerprint
from ..host.model.images import decode, from_image
from ..host.model.prompts import Prompts
from ..host.model.run import with_denoiser
from ..host.model.traits import check_network
from ..host.patches.model_edits import edited, edited_at
from ..host.patches.sampler_only import refuse_sampler_only
from ..host.patches.steering import edits_of
from ..host.progress import reporter
from ..host.training import networks_of
from ..unused import refuse_unused

_TOGETHER = 32  # pictures rendered in one batch, where they fit
_DRAWN: Kept[tuple[torch.Tensor, torch.Tensor]] = Kept(2)


class HSpaceDirectionAtlas(Node):
    """Draws every direction at several strengths as one picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceDirectionAtlas",
            display_name="Direction Atlas",
            category="HSpace/discover",
            description="Renders each direction at strengths from minus to plus twice 'strength' in one labelled sheet. It is the quickest way to see what they do.",
            search_aliases=["grid", "contact sheet", "traversal", "directions preview"],
            is_output_node=True,
            inputs=[
                cut_model_input(),
                trajectory_input(),
                directions_input(),
                io.Float.Input(
                    "strength",
                    default=15.0,
                    min=0.1,
                    max=1000.0,
                    step=0.5,
                    tooltip="This is a, and the sheet goes from -2a to +2a. Directions have unit length.",
                ),
                io.Int.Input(
                    "columns", default=5, min=3, max=15, step=2, tooltip="The number of strengths. The middle one is 0."
                ),
                count_input("first", 1, "The number of the first direction that is shown.", advanced=True),
                count_input("count", 5, "The number of directions."),
                sigma_input("sigma_start", 0.0, WINDOW_START, advanced=True),
                sigma_input("sigma_end", 0.1, WINDOW_END, advanced=True),
                IMAGE_INDEX,
                io.String.Input(
                    "title",
                    default="",
                    tooltip="A word that is written before the number of each direction, for example mouth.",
                ),
                vae_input(),
                io.Combo.Input(
                    "names",
                    options=["off", "face world"],
                    optional=True,
                    tooltip="face world writes beside each direction which known factors its two ends move. It is for the 64x64 faces of this pack only.",
                ),
                Embedder.Input(
                    "embedder",
                    optional=True,
                    tooltip="If connected, the words towards which each end moves are written beside it, in place of 'names'.",
                ),
                text_input(
                    "words",
                    "The words to choose from, separated by commas, if an embedder is connected. An empty text takes a list of the node's own.",
                ),
                io.AnyType.Input(
                    "after",
                    optional=True,
                    tooltip="The sheet is drawn after what is connected here, such as the edited picture, so that this is seen first. It changes nothing on the sheet.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet"),
                io.Image.Output(
                    display_name="images", tooltip="All pictures of the sheet as a batch, row by row, without labels."
                ),
            ],
        )

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
        after=None,
    ) -> io.NodeOutput:
        if embedder is None:
            refuse_unused(cls, "needs an embedder, and none is connected", words=words)
        else:
            refuse_unused(cls, "is replaced by the words of the embedder, which is connected", names=names)
        trajectory = trajectory_from_payload(trajectory).image(image_index).to(model.load_device)
        trajectory.check_model(model_fingerprint(model))
        directions = directions_for(model, directions_from_payload(directions), check_network(model))
        directions = _chosen(cls, directions, first, count)
        atlas = Atlas.of(directions, edit_schedule(directions, 1.0, sigma_start, sigma_end), strength, columns)
        refuse_sampler_only(model, "connect the MODEL from before them to draw an atlas")

        def draw() -> tuple[torch.Tensor, torch.Tensor]:
            pictures = decode(model, vae, _rendered(model, trajectory, atlas))
            images, ends = atlas.arranged(pictures)
            end_names = _end_names(pictures[1].movedim(-1, 0), ends, names, embedder, words)
            (original,) = from_image(pictures[:1])
            return atlas.sheet(original, list(from_image(images)), title, end_names), images

        # The host takes the sheet for stale whenever what it waits for has changed; without 'after' it keeps it itself.
        said = content_key(strength, columns, sigma_start, sigma_end, title, names, words)
        drawn = [path_key(trajectory), content_key(directions_to_payload(directions)), said]
        key = content_key(drawn) if after is not None and None not in drawn else None
        sheet, images = _DRAWN.get(model, key, draw, *(one for one in (vae, embedder) if one is not None))
        return io.NodeOutput(sheet, images, ui=ui.PreviewImage(sheet, cls=cls))


def _chosen(node: type[Node], directions, first: int, count: int):
    """``count`` directions from number ``first`` on.

    Raises:
        ValueError: there are fewer.
    """
    total = len(directions)
    if first > total:
        raise ValueError(f"first must be at most {total}, the number of directions connected, got {first}")
    left = total - first + 1
    if count > left:
        refuse_unused(node, f"asks for more than the {left} directions from number {first} on", count=count)
    return directions.select(list(range(first - 1, first - 1 + min(count, left))))


def _rendered(model, trajectory, atlas: Atlas) -> torch.Tensor:
    """States of the original, the reconstruction and all variants, `[2+n c h w]`."""
    size = rows_at_once(model, trajectory.states.shape[2:], _TOGETHER)
    report = reporter(model, (len(atlas.batches(size)) + 1) * (len(trajectory.sigmas) - 1), preview=False)

    def work(denoiser):
        return render_variants(
            edited(denoiser, model),
            trajectory,
            atlas,
            size,
            before=edits_of(model),
            edited=edited_at(model.model_options),
            callback=report,
        )

    shape = (size, *trajectory.states.shape[2:])
    states = with_denoiser(model, shape, Prompts.of(trajectory), work)
    return torch.cat([trajectory.x0.to(states), states])


def _end_names(plain: torch.Tensor, ends: torch.Tensor, names: str, embedder, words: str) -> list[str]:
    """What to write at the ends of each row; none if neither ``names`` nor an embedder asks for it.

    Args:
        plain: the reconstruction, `[3 h w]` in 0..1.
        ends: two for each direction, `[2k 3 h w]` in 0..1.
        names: of the node.
        embedder: of the node, or None.
        words: of the node.
    """
    if embedder is not None:
        networks_of(embedder, plain.device)
        return name_ends(embedder, plain, ends, words)
    if names != "off":
        return name_factors(load_regressor(paths.WEIGHTS / paths.REGRESSOR), plain, ends)
    return []


NODES = [HSpaceDirectionAtlas]
