"""How files in the wild name the weights of the two families, and what to call them here.

The diffusers layout is that of ``google/ddpm-celebahq-256`` and its siblings (Ho et al. 2020, arXiv 2006.11239).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from torch import Tensor

from ..networks.ddpm import count
from ..text import MESSAGE, cleaned, quoted

Family = Literal["ddpm", "guided"]
State = dict[str, Tensor]


class FileError(ValueError):
    """A file that cannot be used.

    The message says what is wrong with it and what to do, in at most 1000 printable characters.
    """

    def __init__(self, message: str):
        super().__init__(cleaned(message, MESSAGE))


LATENT = (
    "this is a latent or text-conditional diffusion model, not a pixel one; load it with the stock Load Checkpoint node"
)
KNOWN = (
    "expected a pixel DDPM (celeba_hq.ckpt, DiffusionCLIP), a diffusers UNet2DModel (google/ddpm-*) or a "
    "guided-diffusion U-Net (P2, ILVR, OpenAI 256x256)"
)
_EMA = ("ema", "ema_state_dict", "model_ema", "ema_model")
_PLAIN = ("state_dict", "model", "model_state_dict")


def unwrap(content: Any, depth: int = 3) -> tuple[State, str]:
    """Find the network among what a training script saved.

    A file may be the weights alone, a dictionary around them, or a row such as DDIM's and SDEdit's (weights, optimiser,
    epoch, step, moving average). The moving average is taken when it names the same weights as the model beside it;
    otherwise the model.

    Returns:
        The weights without ``module.`` prefixes, and where they were found ("" if they were the whole file).

    Raises:
        FileError: there is no dictionary of tensors, or the one that is there holds other things too.
    """
    parts: list[tuple[str, Any]] = []
    if isinstance(content, Mapping):
        parts = [(k, content[k]) for k in _PLAIN + _EMA if isinstance(content.get(k), Mapping)]
    elif isinstance(content, list | tuple):
        parts = [(f"item {i}", v) for i, v in enumerate(content[:16]) if isinstance(v, Mapping)]
    found: list[tuple[str, State]] = []
    for name, part in parts if depth else ():
        try:
            state, inner = unwrap(part, depth - 1)
        except FileError:
            continue  # an optimiser or a counter; if nothing else is found, that is the error
        found.append((f"{name}/{inner}" if inner else name, state))
    if found:
        (name, state), (last_name, last) = found[0], found[-1]
        averaged = isinstance(content, list | tuple) or last_name.split("/")[0] in _EMA
        return (last, last_name) if averaged and _same_shapes(state, last) else (state, name)
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise FileError(f"there is no dictionary of weights in it; {KNOWN}")
    strangers = [k for k, v in content.items() if not isinstance(v, Tensor) or not isinstance(k, str)]
    if strangers:
        raise FileError(f"the weights are mixed with other things ({short(strangers)}); save the state_dict alone")
    return _strip(dict(content)), ""


def _strip(state: State) -> State:
    while state and all(k.startswith("module.") for k in state):
        state = {k[len("module.") :]: v for k, v in state.items()}
    return state


def _same_shapes(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape for k in a)


def short(names: Any, most: int = 5) -> str:
    """List up to ``most`` names for an error message, each cut to a readable length."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(ascii(str(n)[:70])[1:-1][:70] for n in names[:most]) + more


def native(state: State) -> tuple[Family, State]:
    """Recognise the family by its keys and rename the weights to those of ``DDPMUNet`` or ``GuidedUNet``.

    Raises:
        FileError: a latent model, a noise classifier, or no family known here.
    """
    if any("transformer_blocks." in k or k.startswith(("model.diffusion_model.", "first_stage_model.")) for k in state):
        raise FileError(LATENT)
    if "encoder.out.3.weight" in state and any(k.endswith(".cond_emb_layers.1.weight") for k in state):
        raise FileError("this is a diffusion autoencoder; load it with Load DiffAE")
    if "temb.dense.0.weight" in state:
        return "ddpm", renamed((k, k.replace(".downsample.op.", ".downsample.conv."), v) for k, v in state.items())
    if "time_embedding.linear_1.weight" in state and any(k.startswith("down_blocks.") for k in state):
        return "ddpm", renamed(_from_diffusers(state))
    if "time_embed.0.weight" in state and any(k.startswith("input_blocks.") for k in state):
        state = _unlabelled(state)
        if not any(k.startswith("output_blocks.") for k in state):
            raise FileError(
                "this is the encoder of a classifier (it has no output_blocks), not a diffusion model; load the"
                " diffusion file"
            )
        return "guided", state
    raise FileError(f"unknown weights ({short(state)}); {KNOWN}. Latent models: use the stock Load Checkpoint node")


def _unlabelled(state: State) -> State:
    """Strip a class-conditional network (ImageNet) of its labels, as the code of DiffusionCLIP and Asyrp does.

    A label adds its row of ``label_emb`` to the step embedding and nothing else, so that the network without any is
    whole.
    """
    label = state.get("label_emb.weight")
    if label is None:
        return state
    if label.dim() != 2 or label.shape[1] != state["time_embed.0.weight"].shape[0]:
        raise FileError(
            f"its label_emb is {list(label.shape)[:8]}, not one row of the step embedding a class; it is of an unknown"
            " variant"
        )
    return {k: v for k, v in state.items() if k != "label_emb.weight"}


_RENAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^time_embedding\.linear_1\.", "temb.dense.0."),
        (r"^time_embedding\.linear_2\.", "temb.dense.1."),
        (r"^conv_norm_out\.", "norm_out."),
        (r"^mid_block\.resnets\.0\.", "mid.block_1."),
        (r"^mid_block\.resnets\.1\.", "mid.block_2."),
        (r"^mid_block\.attentions\.0\.", "mid.attn_1."),
        (r"^(down|up)_blocks\.", r"\1."),
        (r"^((?:down|up)\.\d+)\.resnets\.", r"\1.block."),
        (r"^((?:down|up)\.\d+)\.attentions\.", r"\1.attn."),
        (r"\.(down|up)samplers\.0\.conv\.", r".\1sample.conv."),
        (r"\.conv_shortcut\.", ".nin_shortcut."),
        (r"\.time_emb_proj\.", ".temb_proj."),
        (r"\.group_norm\.", ".norm."),
        (r"\.(?:to_q|query)\.", ".q."),
        (r"\.(?:to_k|key)\.", ".k."),
        (r"\.(?:to_v|value)\.", ".v."),
        (r"\.(?:to_out\.0|proj_attn)\.", ".proj_out."),
    )
]


def _from_diffusers(state: State) -> Iterator[tuple[str, str, Tensor]]:
    levels = [str(i) for i in range(count(state, "up_blocks.{}.resnets.0.conv1.weight"))]
    for key, value in state.items():
        name = key
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
        if name.startswith("up."):  # counted from the bottleneck there, from the finest level here
            _, i, rest = name.split(".", 2)
            name = f"up.{len(levels) - 1 - int(i)}.{rest}" if i in levels else key
        linear = value.dim() == 2 and re.search(r"\.(q|k|v|proj_out)\.weight$", name)
        yield key, name, value[:, :, None, None] if linear else value


def renamed(triples: Iterable[tuple[str, str, Tensor]]) -> State:
    """Collect weights under their new names, of ``(old name, new name, weight)``.

    Raises:
        FileError: two of them have one new name.
    """
    state: State = {}
    for key, name, value in triples:
        if name in state:
            raise FileError(
                f"two weights mean the same thing ({short([key])}); the file mixes two layouts, use the original"
                " release"
            )
        state[name] = value
    return state


_DIFFUSERS = {
    "attention_head_dim": None,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "downsample_padding": 0,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "act_fn": "silu",
    "center_input_sample": False,
    "mid_block_scale_factor": 1,
    "time_embedding_type": "positional",
    "resnet_time_scale_shift": "default",
}


def check_diffusers_config(config: Mapping[str, Any]) -> None:
    """Refuse a ``UNet2DModel`` whose settings differ from those of google/ddpm-*.

    The shapes of its weights would not show it.

    Raises:
        FileError: the settings that differ.
    """
    wrong = [f"{k} = {quoted(config[k])}" for k, v in _DIFFUSERS.items() if k in config and config[k] != v]
    if wrong:
        raise FileError(
            f"the config.json beside it sets {short(wrong)}; only models configured as google/ddpm-celebahq-256 is can"
            " be read. Move config.json away if it belongs to another file"
        )
