"""Edit: features of an inverted picture inside of another run: Plug-and-Play (arXiv 2211.12572) and MasaCtrl (arXiv
2304.08465).
"""

from dataclasses import replace

from ....core.edit.attention.feature_blocks import PRESETS, Recipe, parse_blocks, preset
from ....core.payload import trajectory_from_payload
from ...dials import signed_input, text_input
from ...host.api import Node, Trajectory, io
from ...host.model.fingerprint import model_fingerprint
from ...host.model.prompts import Prompts
from ...host.patches.attention import check_unet
from ...host.patches.features import Features, add_features, feature_blocks, is_sdxl
from ...host.prompt_checks import check_prompt
from ...unused import refuse_unused

_BLOCKS = "An empty text takes the preset's. Numbers are output blocks, such as '4' or '4-11'. 'middle', 'input 7-8' and 'none' work too."


def _blocks(kind: str, what: str):
    return text_input(f"{kind}_blocks", f"{what}{_BLOCKS}")


class HSpaceInjectFeatures(Node):
    """Injects features of the source into a picture, step by step (PnP, MasaCtrl)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceInjectFeatures",
            display_name="Inject Features",
            category="HSpace/edit/attention",
            description=(
                "Lets the network look at the stored states of an inverted picture while any sampler runs, and "
                "hands their features over. They give the layout of the picture with another prompt (Plug-and-"
                "Play), or its appearance in another pose (MasaCtrl)."
            ),
            search_aliases=["plug and play", "pnp", "masactrl", "feature injection", "self-attention injection"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model is Stable Diffusion 1.x, 2.x, SDXL or Load Face Text Model. A LoRA on top may differ from that of the inversion.",
                ),
                Trajectory.Input(
                    "trajectory",
                    tooltip="The trajectory of the source picture, from Invert Image. Use its SIGMAS in the sampler, or Resume Trajectory.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    tooltip="PnP keeps structure by features and self-attention. f only and qk only take one of both. P2P self keeps shapes in the coarse layers. MasaCtrl keeps appearance. custom takes the blocks named below.",
                ),
                signed_input(
                    "tau_f",
                    -1.0,
                    1.0,
                    "The share of the steps with the source's residual features. -1 is the preset's own (0.8), 0 is off.",
                ),
                signed_input(
                    "tau_A",
                    -1.0,
                    1.0,
                    "The share of the steps with the source's self-attention. -1 is the preset's own (PnP 0.5, P2P self 0.4, MasaCtrl 1), 0 is off.",
                ),
                signed_input(
                    "start",
                    -1.0,
                    1.0,
                    "The share of the steps before anything is taken. -1 is the preset's own (0; MasaCtrl 0.08, step 4 of 50).",
                    step=0.01,
                    advanced=True,
                ),
                io.Conditioning.Input(
                    "source",
                    optional=True,
                    tooltip="What the source picture shows. Without it the prompt of the inversion is taken.",
                ),
                _blocks("f", "Blocks whose residual features are the source's. "),
                _blocks("qk", "Blocks whose self-attention takes queries and keys of the source. "),
                _blocks("kv", "Blocks whose self-attention takes keys and values of the source. "),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.String.Output(display_name="blocks", tooltip="The text says what is taken where and when."),
            ],
        )

    @classmethod
    def execute(
        cls, model, trajectory, preset, tau_f, tau_A, start=-1.0, source=None, f_blocks="", qk_blocks="", kv_blocks=""
    ) -> io.NodeOutput:
        net = check_unet(model)
        trajectory = trajectory_from_payload(trajectory)
        trajectory.check_base(model_fingerprint(model))
        check_prompt(model, source, "source")
        recipe = _recipe(net, is_sdxl(model), preset, f_blocks, qk_blocks, kv_blocks)
        recipe = recipe.moved(tau_f, tau_A, start)
        _check_windows(cls, recipe, tau_f, tau_A)
        edit = Features(trajectory, source or Prompts.of(trajectory).positive, recipe)
        return io.NodeOutput(add_features(model, edit), recipe.text)


def _check_windows(node: type[Node], recipe: Recipe, tau_f: float, tau_a: float) -> None:
    """Refuse a window of blocks that are not there, or one that ends before it begins.

    Raises:
        ValueError: it is.
    """
    if not recipe.hidden:
        why = "is the window of residual features, and no block hands them over"
        refuse_unused(node, why, instead="name blocks in f_blocks", tau_f=tau_f or None)
    if not recipe.queries and not recipe.keys:
        why, blocks = (
            "is the window of self-attention, and no block hands it over",
            "name blocks in qk_blocks or kv_blocks",
        )
        refuse_unused(node, why, instead=blocks, tau_A=tau_a or None)
    for name, tau in (("tau_f", recipe.tau_f), ("tau_A", recipe.tau_a)):
        if 0 < tau <= recipe.start and (recipe.hidden if name == "tau_f" else recipe.queries or recipe.keys):
            raise ValueError(
                f"start {recipe.start:g} lies behind {name} {tau:g}, so the window is empty; lower start, or set {name} to 0"
            )


def _recipe(net, sdxl: bool, name: str, f: str, qk: str, kv: str) -> Recipe:
    hidden, attention, coarse = feature_blocks(net)
    recipe = preset(name, len(net.output_blocks), coarse, sdxl).within(hidden, attention)
    if f.strip():
        recipe = replace(recipe, hidden=parse_blocks(f, hidden, "f_blocks"))
    if qk.strip():
        recipe = replace(recipe, queries=parse_blocks(qk, attention, "qk_blocks"))
    if kv.strip():
        recipe = replace(recipe, keys=parse_blocks(kv, attention, "kv_blocks"))
    if not (recipe.hidden or recipe.queries or recipe.keys):
        raise ValueError(f"{name} takes no features here; name blocks in f_blocks, qk_blocks or kv_blocks")
    return recipe


NODES = [HSpaceInjectFeatures]
