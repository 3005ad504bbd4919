"""Directions of a quantised network beside those of the float32 network that it stands for."""

import json

import torch
from comfy_api.latest import io

from .networks import PACKED, QUANTISED, conditioning, float32_copy, quantised_unet
from .pack import pack_module


class TestCopies(io.ComfyNode):
    """The largest angle between the directions of both, the relative difference of their gains, and what is left of the
    quantised weights, as JSON."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestCopies",
            category="tests",
            is_output_node=True,
            inputs=[
                io.Combo.Input("weights", options=[*QUANTISED, *PACKED]),
                io.String.Input("layer", default="middle"),
                io.Combo.Input("forward", options=["exact", "one-sided"]),
            ],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, weights, layer, forward):
        quantised, plain = quantised_unet("sd15", weights, 0, torch.float32), float32_copy("sd15", weights, 0)
        before = _kept(quantised)
        found = [_directions(model, layer, forward) for model in (quantised, plain)]
        rows = [vectors.double() for vectors, _ in found]
        left = rows[0] - (rows[0] @ torch.linalg.pinv(rows[1])) @ rows[1]
        figures = {
            "angle": float(torch.linalg.matrix_norm(left, 2)),
            "gain": float(((found[0][1] - found[1][1]) / found[1][1]).abs().max()),
            "as before": before == _kept(quantised),
        }
        text = json.dumps(figures)
        return io.NodeOutput(text, ui={"text": (text,)})


def _kept(model) -> list:
    net = model.model.diffusion_model
    return [
        (name, type(m.weight).__name__, len(getattr(m, "weight_function", ())))
        for name, m in net.named_modules()
        if isinstance(getattr(m, "weight", None), torch.Tensor)
    ]


def _directions(model, layer: str, forward: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors `[2 d]` of a corner, of few products, and their gains."""
    host, engine = pack_module("nodes.host.model.run"), pack_module("core.discover.jacobian")
    krylov, region = pack_module("core.discover.krylov"), pack_module("core.discover.region")
    x = 3 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(4, 8, 8)
    mask[:, :5, :5] = 1

    def work(denoiser):
        part = denoiser.split(x, x.new_full((1,), 2.0), layer)
        J = engine.DecoderJacobian(part, engine.Route(4, forward))
        J.check(weights=mask.flatten())
        assert (J.step is None) == (forward == "exact")
        settings = krylov.SolverSettings(k=2, iterations=2, widen=0)
        result = region.region_directions(krylov.block_krylov(J, mask.flatten(), settings), 2, "none")
        return result.vectors, result.gain

    return host.with_denoiser(model, x.shape, host.Prompts(conditioning("sd15", 1), [], 1.0), work, gradients=True)
