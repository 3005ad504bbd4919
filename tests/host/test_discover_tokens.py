"""Everything of discover on the tokens of transformers, and the edit rendered and sampled."""

import pytest
import torch

from devtools.transformers import Case, World

FAMILIES = ("Flux.1", "Z-Image", "Qwen-Image", "Anima", "Ernie")
STEPS = 4


class Found(World):
    """A small transformer with an inverted picture and a region.

    Attributes:
        trajectory: as a socket carries it.
        mask: the left half of the picture, `[1 H W]`.
    """

    def __init__(self, executor, case: Case):
        super().__init__(executor, case)
        (self.sigmas,) = executor.call("BasicScheduler", model=self.model, scheduler="simple", steps=STEPS, denoise=1.0)
        invert = executor.module("core.invert.fixed_point").invert_fixed_point
        payload = executor.module("core.payload")
        core = executor.module("core.trajectory")
        clean = 0.5 * self.x

        def work(denoiser):
            return invert(denoiser, clean, self.sigmas, 3, limit=None)

        found = self.inside(work, gradients=False)
        prompts = {"positive": self.positive, "negative": [], "cfg": 1.0}
        whole = core.Trajectory(**{**vars(found), "prompts": prompts})
        self.trajectory = payload.trajectory_to_payload(whole)
        cell = self.model.get_model_object("latent_format").spacial_downscale_ratio
        height, width = (side * cell for side in self.x.shape[-2:])
        self.mask = torch.zeros(1, height, width)
        self.mask[:, :, : width // 2] = 1

    def discovered(self, node="HSpaceDiscoverRegion", **options):
        given = {"model": self.model, "trajectory": self.trajectory, "mask": self.mask, "sigma": 0.6}
        return self.executor.call(node, **{**given, **options})

    def steered(self, directions, strength=5.0):
        return self.executor.call(
            "HSpaceSteer",
            model=self.model,
            directions=directions,
            strength=strength,
            direction=1,
            sigma_start=1000.0,
            sigma_end=0.0,
        )[0]

    def rendered(self, model):
        """States of Render Trajectory, without its picture."""
        steer = self.executor.module("core.edit.directions.steer")
        payload = self.executor.module("core.payload")
        edits = self.executor.module("nodes.host.patches.steering").edits_of(model)
        trajectory = payload.trajectory_from_payload(self.trajectory)
        return self.inside(lambda d: steer.steer_trajectory(d, trajectory, edits), gradients=False)

    def resumed(self, model):
        """States of Resume Trajectory in the stock sampler."""
        call = self.executor.call
        sampler, sigmas = call("HSpaceResumeTrajectory", trajectory=self.trajectory, asymmetric=False)
        frames = (1,) if self.framed else ()
        empty = {"samples": torch.zeros(1, self.channels, *frames, *self.x.shape[-2:])}
        guider = call("BasicGuider", model=model, conditioning=self.positive)[0]
        noise = call("DisableNoise")[0]
        sampled = call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=empty
        )[0]["samples"]
        return self.executor.module("nodes.host.model.latents").latents_in(model, sampled)


@pytest.fixture(scope="module", params=FAMILIES)
def found(executor, request):
    return Found(executor, Case(request.param))


@pytest.mark.sweep("")
@pytest.mark.parametrize("mode", ["generalized", "constrained", "none"])
def test_directions_of_a_region_change_it_and_are_rendered_and_sampled_alike(found, mode):
    rank = {} if mode != "constrained" else {"rank": 2}
    directions, _, report = found.discovered(k=2, mode=mode, iterations=3, **rank)
    assert directions["layer"] == "block.1" and "block.1" in report
    assert directions["vectors"].shape[1] == 2
    plain, moved = found.rendered(found.model), found.rendered(found.steered(directions))
    assert torch.equal(plain, found.rendered(found.steered(directions, 0.0)))
    change = (moved - plain).abs()
    assert float(change.max()) > 1e-4
    sampled = found.resumed(found.steered(directions))
    assert float((sampled - moved).abs().max()) < 1e-3 * float(change.max()) + 1e-5


@pytest.mark.sweep("")
def test_a_region_has_a_better_quotient_than_none(found):
    """What the region gains per unit of what leaks is more than that of the strongest directions of all."""

    def quotient(mode):
        directions = found.discovered(k=1, mode=mode, iterations=4)[0]
        return float(directions["gain"] / directions["leak"])

    assert quotient("generalized") > 1.2 * quotient("none")


@pytest.mark.sweep("")
def test_basis_track_transport_and_baselines(found):
    executor, model = found.executor, found.model
    (basis, _) = found.discovered("HSpaceRegionBasis", max_k=2, max_rank=0, iterations=2)
    (directions, _) = executor.call("HSpaceBasisDirections", basis=basis, k=2, mode="generalized", tau=0.01, rank=20)
    (moved, _) = executor.call("HSpaceTransportDirections", directions=directions, basis=basis)
    assert directions["layer"] == moved["layer"] == "block.1"
    tracked = executor.call(
        "HSpaceTrackDirections",
        model=model,
        trajectory=found.trajectory,
        mask=found.mask,
        sigma_start=0.8,
        sigma_end=0.4,
        levels=2,
        k=1,
        mode="generalized",
        iterations=2,
    )[0]
    assert tracked["vectors"].shape[:2] == (2, 1) and tracked["layer"] == "block.1"
    for method in ("LOCO Edit (x)", "pullback (x)"):
        options = {"mask": found.mask, "rank": 1} if method.startswith("LOCO") else {"rank": 5}
        state = executor.call(
            "HSpaceBaselineDirections",
            model=model,
            trajectory=found.trajectory,
            method=method,
            k=1,
            sigma=0.6,
            iterations=2,
            **options,
        )[0]
        assert state["vectors"].shape[2:] == found.x.shape[1:]
        (edited,) = executor.call(
            "HSpaceEditState",
            model=model,
            trajectory=found.trajectory,
            directions=state,
            strength=1.0,
            direction=1,
            how="step",
        )
        assert not torch.equal(edited["states"][0], found.trajectory["states"][0])


@pytest.mark.parametrize("layer", ["block.0", "block.2"])
def test_a_block_is_chosen(found, layer):
    assert found.discovered(k=1, mode="none", iterations=2, layer=layer)[0]["layer"] == layer


def test_a_layer_that_is_not_there_is_refused(found):
    with pytest.raises(ValueError, match=r"no layer 'up.1'; choose one of block.0, block.1, block.2"):
        found.discovered(k=1, mode="none", layer="up.1")


def test_differences_of_decodes_do_where_forward_mode_has_no_room(found):
    """What quantised weights that nobody can unpack would be left with."""
    engine = found.executor.module("core.discover.jacobian")

    def work(denoiser):
        part = denoiser.split(found.x, found.sigma, "block.1")
        exact, central = (engine.DecoderJacobian(part, engine.Route(4, way)) for way in ("exact", "central"))
        v = torch.randn(2, exact.shape[1], generator=torch.Generator().manual_seed(2))
        central.check()
        expected = exact.jvp(v)
        return float((central.responses(v) - expected).norm() / expected.norm())

    assert found.inside(work) < 2e-2


def test_nodes_that_need_a_u_net_refuse_a_transformer(executor):
    world = World(executor, Case("Flux.1"))
    unets = executor.module("nodes.host.model.traits")
    with pytest.raises(ValueError, match=r"needs the bottleneck of a U-Net, but the MODEL connected is a Flux"):
        unets.check_unet(world.model)
