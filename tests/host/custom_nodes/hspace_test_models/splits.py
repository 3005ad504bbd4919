"""Figures of the pack's own adapter."""

import json

import torch
from comfy_api.latest import io

from .pack import pack_module


def staged(engine, part, g: torch.Generator) -> dict:
    """How far the decoder as a list of stages is from the whole one, and its products from those of the whole one."""
    h = part.h
    for stage in part.decode.stages:
        h = stage(h)
    route = engine.Route(2, keep=False)
    J = engine.DecoderJacobian(part, route)
    whole = engine.DecoderJacobian(type(part)(J.h0, J.decode.__call__, part.layer), route)
    u = torch.randn(2, J.shape[0], generator=g)
    expected = whole.vjp(u)
    return {
        "stages": len(part.decode.stages),
        "composed": bool(torch.equal(h, part.decode(part.h))),
        "reverse": float((J.vjp(u) - expected).norm() / expected.norm()),
    }


class TestSplit(io.ComfyNode):
    """Figures of the pack's own adapter on the MODEL connected, as JSON."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceTestSplit",
            category="tests",
            is_output_node=True,
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative", optional=True),
                io.Float.Input("cfg", default=1.0),
                io.String.Input("layer", default="middle"),
                io.Int.Input("batch", default=1),
                io.Int.Input("height", default=16),
                io.Int.Input("width", default=16),
                io.Boolean.Input("jacobian", default=True),
                io.Vae.Input("vae", optional=True),
                io.Float.Input("step", default=0.5, optional=True),
            ],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, model, positive, cfg, layer, batch, height, width, jacobian, negative=None, vae=None, step=0.5):
        host, engine = pack_module("nodes.host.model.run"), pack_module("core.discover.jacobian")
        g = torch.Generator().manual_seed(5)
        x = 3 * torch.randn(batch, 4, height, width, generator=g)
        sigma = torch.full((batch,), 2.0)
        calls = model.model_options.get("transformer_options", {}).get("patches", {})
        before = {name: len(those) for name, those in calls.items()}

        def work(denoiser):
            whole, again = denoiser(x, sigma), denoiser(x, sigma)
            part = denoiser.split(x, sigma, layer)
            scale = float(whole.abs().max())
            figures = {
                "layers": list(denoiser.layers),
                "fingerprint": denoiser.fingerprint,
                "h": list(part.h.shape),
                "out": list(whole.shape),
                "repeats": bool(torch.equal(whole, again)),
                "split": float((part.decode(part.h) - whole).abs().max()) / scale,
                "smooth": float(((part.smooth or part.decode)(part.h) - whole).abs().max()) / scale,
            }
            if jacobian:
                one = denoiser.split(x[:1], sigma[:1], layer)
                J = engine.DecoderJacobian(one, 2)
                v = torch.randn(2, J.shape[1], generator=g)
                v /= v.norm(dim=1, keepdim=True)
                shifted = [J.decode(J.h0 + s * step * v[1].view_as(J.h0)) for s in (1, -1)]
                by_difference = (shifted[0] - shifted[1]).reshape(-1) / (2 * step)
                push = J.jvp(v)[1]
                figures |= {
                    "adjoint": J.check(),
                    "difference": float((push - by_difference).norm() / push.norm()),
                    "products": J.products,
                    **staged(engine, one, g),
                }
            return figures

        figures = host.with_denoiser(model, x.shape, host.Prompts(positive, negative or [], cfg), work, vae=vae)
        if vae is not None:
            blocks = [m for m in vae.first_stage_model.modules() if hasattr(m, "optimized_attention")]
            figures["attention left"] = sum(
                "hspace" in getattr(m.optimized_attention, "__module__", "").lower() for m in blocks
            )
        after = model.model_options.get("transformer_options", {}).get("patches", {})
        figures["left behind"] = {name: len(those) for name, those in after.items()} != before or "hspace" in str(
            model.model_options.get("transformer_options", {}).get("wrappers", {})
        )
        text = json.dumps(figures)
        return io.NodeOutput(text, ui={"text": (text,)})
