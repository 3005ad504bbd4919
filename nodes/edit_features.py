"""Edit: features of an inverted picture inside of another run: Plug-and-Play (arXiv 2211.12572) and MasaCtrl (arXiv 2304.08465)."""

from dataclasses import replace

from ..core.edit.feature_blocks import PRESETS, Recipe, parse_blocks, preset
from ..core.payload import trajectory_from_payload
from .host.api import Trajectory, io
from .host.attention import check_unet
from .host.denoiser import Prompts
from .host.features import Features, add_features, feature_blocks, is_sdxl
from .host.fingerprint import model_fingerprint

_BLOCKS = "Empty: the preset's. Output blocks by number: '4', '4-11'; also 'middle', 'input 7-8', and 'none'."


class HSpaceInjectFeatures(io.ComfyNode):
    """Features of the source, step by step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceInjectFeatures",
            display_name="Inject Features",
            category="HSpace/edit",
            description=(
                "While any sampler runs, the network also looks at the stored states of an inverted picture and hands their features over: the "
                "layout of the picture with another prompt (Plug-and-Play), or its appearance in another pose (MasaCtrl)."
            ),
            search_aliases=["plug and play", "pnp", "masactrl", "feature injection", "self-attention injection"],
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 1.x, 2.x, SDXL, or Load Face Text Model. A LoRA on top may differ from the one inverted with."),
                Trajectory.Input("trajectory", tooltip="Of the source picture, from Invert Image. Use its SIGMAS in the sampler, or Resume Trajectory."),
                io.Combo.Input("preset", options=list(PRESETS), tooltip="PnP: structure by features and self-attention. f only, qk only: one of both. P2P self: shapes, in the coarse layers. MasaCtrl: appearance. custom: the blocks named below."),
                io.Float.Input("tau_f", default=-1.0, min=-1.0, max=1.0, step=0.05, tooltip="Share of the steps with the source's residual features. -1: the preset's own (0.8). 0: off."),
                io.Float.Input("tau_A", default=-1.0, min=-1.0, max=1.0, step=0.05, tooltip="Share of the steps with the source's self-attention. -1: the preset's own (PnP 0.5, P2P self 0.4, MasaCtrl 1). 0: off."),
                io.Float.Input("start", default=-1.0, min=-1.0, max=1.0, step=0.01, advanced=True, optional=True, tooltip="Share of the steps before anything is taken. -1: the preset's own (0; MasaCtrl 0.08, step 4 of 50)."),
                io.Conditioning.Input("source", optional=True, tooltip="What the source picture shows. Without one: the prompt it was inverted with."),
                io.String.Input("f_blocks", default="", advanced=True, optional=True, tooltip="Blocks whose residual features are the source's. " + _BLOCKS),
                io.String.Input("qk_blocks", default="", advanced=True, optional=True, tooltip="Blocks whose self-attention takes queries and keys of the source. " + _BLOCKS),
                io.String.Input("kv_blocks", default="", advanced=True, optional=True, tooltip="Blocks whose self-attention takes keys and values of the source. " + _BLOCKS),
            ],
            outputs=[io.Model.Output(display_name="model"), io.String.Output(display_name="blocks", tooltip="What is taken where and when.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, trajectory, preset, tau_f, tau_A, start=-1.0, source=None, f_blocks="", qk_blocks="", kv_blocks=""
    ) -> io.NodeOutput:
        """Patch a clone."""
        net, path = check_unet(model), trajectory_from_payload(trajectory)
        path.check_base(model_fingerprint(model))
        recipe = _recipe(net, is_sdxl(model), preset, f_blocks, qk_blocks, kv_blocks)
        recipe = replace(
            recipe,
            tau_f=recipe.tau_f if tau_f < 0 else tau_f,
            tau_a=recipe.tau_a if tau_A < 0 else tau_A,
            start=recipe.start if start < 0 else start,
        )
        edit = Features(path, source or Prompts.of(path).positive, recipe)
        return io.NodeOutput(add_features(model, edit), _said(recipe))


def _recipe(net, sdxl: bool, name: str, f: str, qk: str, kv: str) -> Recipe:
    hidden, attention, coarse = feature_blocks(net)
    found = preset(name, len(net.output_blocks), coarse, sdxl)
    # Networks of other depths: the same relative place may have no attention.
    found = replace(found, hidden=found.hidden & set(hidden), queries=found.queries & set(attention), keys=found.keys & set(attention))
    for key, text, known in (("hidden", f, hidden), ("queries", qk, attention), ("keys", kv, attention)):
        if text.strip():
            found = replace(found, **{key: parse_blocks(text, known, {"hidden": "f", "queries": "qk", "keys": "kv"}[key] + "_blocks")})
    if not (found.hidden or found.queries or found.keys):
        raise ValueError(f"{name} takes no features here; name blocks in f_blocks, qk_blocks or kv_blocks")
    return found


def _said(recipe: Recipe) -> str:
    parts = (
        ("residual", recipe.hidden, recipe.tau_f),
        ("queries and keys", recipe.queries, recipe.tau_a),
        ("keys and values", recipe.keys, recipe.tau_a),
    )
    lines = [
        f"{what}: {', '.join(' '.join(map(str, b)) for b in sorted(where))}; steps from {recipe.start:.0%} to {tau:.0%}"
        for what, where, tau in parts
        if where
    ]
    return "\n".join(lines)


NODES = [HSpaceInjectFeatures]
