"""Discover: a trajectory and a mask become directions; the atlas shows what they do."""

from functools import partial

from ...core.discover.find import krylov_basis, region_result
from ...core.discover.krylov import SolverSettings
from ...core.discover.payload import basis_from_payload, basis_to_payload
from ...core.discover.search import RegionSearch
from ...core.payload import trajectory_from_payload
from ..dials import HOW, LOOK, MODE, REPORT, SIGMA, SPECTRUM, THROUGH, count_input, refuse_unused_mode
from ..host.api import Basis, Directions, Node, io, ui
from ..host.model.images import one_mask
from ..looking import directions_output, layer_in, place_in


class HSpaceDiscoverRegion(Node):
    """Discovers directions of h that change the masked region and leave the rest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceDiscoverRegion",
            display_name="Discover Region Directions",
            category="HSpace/discover",
            description=(
                "Finds, without labels and without training, the directions of a U-Net's bottleneck, or of a transformer's tokens, that change the masked region most "
                "and the rest least: singular vectors of the masked Jacobian of what lies behind."
            ),
            search_aliases=[
                "jacobian",
                "rbe",
                "region based editing",
                "unsupervised",
                "h-space",
                "semantic directions",
                "latent direction",
                "semantic edit",
                "edit region",
                "change one region",
                "mask edit",
                "local edit",
            ],
            inputs=[*LOOK, *MODE, SIGMA, THROUGH, *HOW],
            outputs=[Directions.Output(display_name="directions"), SPECTRUM, REPORT],
        )

    @classmethod
    def execute(cls, model, trajectory, sigma, image_index=0, mask=None, vae=None, **dials) -> io.NodeOutput:
        search = RegionSearch(**{**dials, "layer": layer_in(model, dials.get("layer", "middle"))})
        refuse_unused_mode(cls, search, mask is not None)
        place = place_in(model, trajectory_from_payload(trajectory).image(image_index), mask, sigma, search.k, vae)
        directions, facts = place.look(search.at, vae)
        text = "\n".join(filter(None, (facts["text"], place.note)))
        return directions_output(cls, directions, text, note=place.note)


class HSpaceRegionBasis(Node):
    """Computes the costly half of discovery once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceRegionBasis",
            display_name="Region Basis",
            category="HSpace/discover",
            description=(
                "Computes once everything about a region that needs the network. Connect Directions From Basis, "
                "whose dials (mode, tau, rank, k) then answer at once. Discover Region Directions does both in one "
                "node."
            ),
            search_aliases=["krylov", "jacobian", "instant directions"],
            inputs=[
                *LOOK,
                count_input("max_k", 5, "The largest number of directions that will be asked for."),
                count_input(
                    "max_rank",
                    20,
                    "The largest rank of post and constrained. 0 saves time if neither is wanted.",
                    least=0,
                    most=128,
                ),
                SIGMA,
                THROUGH,
                *HOW,
            ],
            outputs=[Basis.Output(display_name="basis"), REPORT],
        )

    @classmethod
    def execute(
        cls, model, trajectory, max_k, max_rank, sigma, image_index=0, mask=None, vae=None, **how
    ) -> io.NodeOutput:
        place = place_in(model, trajectory_from_payload(trajectory).image(image_index), mask, sigma, max_k, vae)
        search = RegionSearch(**{**how, "layer": layer_in(model, how.get("layer", "middle"))})
        size = 2 * max_rank + max_k if max_rank else 0
        settings = SolverSettings(k=max_k, size=size, outside_k=max_k, iterations=search.iterations, seed=search.seed)
        basis = place.look(partial(krylov_basis, settings=settings, layer=search.layer), vae)
        text = (
            f"{len(basis.krylov.q)} vectors at layer {basis.layer}, sigma {place.level:.3g}: {basis.products} Jacobian "
            f"products, {basis.seconds:.1f} s{place.note and f'; {place.note}'}"
        )
        return io.NodeOutput(basis_to_payload(basis), text, ui=ui.PreviewText(text))


class HSpaceBasisDirections(Node):
    """Computes directions of a region from what the costly half left."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceBasisDirections",
            display_name="Directions From Basis",
            category="HSpace/discover",
            description="Makes directions out of a Region Basis in any mode, without the network. Turn the dials and run again: it takes milliseconds.",
            search_aliases=["mode", "tau", "rank", "instant directions"],
            inputs=[
                Basis.Input("basis", tooltip="The basis comes from Region Basis."),
                *MODE,
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Another region of the same picture. Without it the region of the basis is taken. It is best inside of that one.",
                ),
            ],
            outputs=[Directions.Output(display_name="directions"), SPECTRUM],
        )

    @classmethod
    def execute(cls, basis, k, mode, tau, rank, mask=None) -> io.NodeOutput:
        whole = basis_from_payload(basis)
        search = RegionSearch(k=k, mode=mode, tau=tau, rank=rank)
        refuse_unused_mode(cls, search, mask is not None or whole.mask is not None)
        directions = region_result(whole, mode=mode, k=k, rank=rank, tau=tau, mask=one_mask(mask, *whole.image[1:]))
        return directions_output(cls, directions)


NODES = [HSpaceDiscoverRegion, HSpaceRegionBasis, HSpaceBasisDirections]
