"""Train the text-conditional face model on the renderer's stream: ``python -m devtools.train_face_text --resume``.

U-Net and text tower are the host's own classes, trained together on pictures with captions, 12 % of which are left empty for guidance
(arXiv 2207.12598). The stream is a function of the seed and the step alone; ``--resume`` goes on exactly where a run stopped.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import torch
from torch import Tensor, nn

from core.faces.captions import caption
from core.faces.embedder import WORDS
from core.faces.emphasis import FINE, pixel_weights
from core.faces.factors import sample
from core.faces.render import render
from core.faces.train_model import random_steps
from core.faces.words import ATTRIBUTES, attributes, describe
from core.own_file import write_own
from core.train.long_run import LongRun, options, rate
from core.train.noised import noised

from .inprocess import host, pack

EMPTY = 0.12
WORDS_RATE = 3.0
"""Learning rate of all that reads words, of the rest's: at first each of 77 tokens has one part in 77 of an attention."""


class Both(nn.Module):
    """Text tower and U-Net."""

    def __init__(self, parts, words: int):
        super().__init__()
        self.text, self.unet = parts.text_tower(), parts.unet()
        self.text.set_input_embeddings(parts.comfy.ops.manual_cast.Embedding(words, parts.TEXT["hidden_size"]))  # those that occur
        for module in self.modules():
            _initialise(module)
        nn.init.eye_(self.text.text_projection.weight)
        self.text.text_projection.requires_grad_(False)  # of the pooled vector, which this U-Net does not take
        for name, weight in self.named_parameters():
            if name.endswith(("out_layers.3.weight", "proj_out.weight", "unet.out.2.weight")):
                nn.init.zeros_(weight)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Network output `[b 3 h w]` for pictures of captions' tokens `[b 77]`, counted among those that occur."""
        return self.unet(x, t, context=self.text(tokens)[0], transformer_options={"optimized_attention_override": _attention})


def _attention(_, q: Tensor, k: Tensor, v: Tensor, heads: int, **_kwargs) -> Tensor:
    """Attention in the open: on a CPU twice as fast in bfloat16 as the fused kernel's backward pass."""
    q, k, v = (a.unflatten(-1, (heads, -1)).transpose(1, 2) for a in (q, k, v))
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1).to(v.dtype).matmul(v).transpose(1, 2).flatten(2)


def _initialise(module: nn.Module) -> None:
    """The host's layers leave their weights as they are in memory."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.1)
    elif isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):  # the host adds to a layer's input in place, which a backward pass does not allow
            module.register_forward_pre_hook(lambda _, args: (args[0].clone(), *args[1:]))


def captions(faces: dict[str, Tensor], rng: random.Random) -> list[str]:
    """Full captions, sentences about some attributes, and empty ones."""
    said = []
    for i, values in enumerate(attributes(faces)):
        kind = rng.random()
        if kind < EMPTY:
            said.append("")
        elif kind < 0.7:
            said.append(caption(faces, i))
        else:
            said.append(describe(values, rng, rng.choice((3, 6, len(ATTRIBUTES))))[0])
    return said


def every_word(tokenizer) -> list[int]:
    """Tokens of all that captions can say, with those of beginning and end."""
    return sorted({t for row in tokenize(tokenizer, list(WORDS)) for t in row})


def tokenize(tokenizer, prompts: list[str]) -> list[list[int]]:
    """77 tokens of each, as the host cuts them."""
    return [[t for t, _ in tokenizer.tokenize_with_weights(p)["l"][0]] for p in prompts]


def main() -> None:
    """Command line entry."""
    a = options(__doc__, Path("weights/face_text.safetensors"), images=400_000, seed=21).parse_args()
    device = torch.device(a.device)
    host(cpu=device.type == "cpu")
    parts = pack("nodes.host.face_text")
    tokenizer, schedule = parts.comfy.sd1_clip.SD1Tokenizer(), parts.SCHEDULE
    rows = every_word(tokenizer)
    place = {token: i for i, token in enumerate(rows)}
    torch.manual_seed(a.seed)
    net = Both(parts, len(rows)).to(device).train()
    params = {k: v for k, v in net.named_parameters() if v.requires_grad}
    run = LongRun(params, a.ema, {k: WORDS_RATE for k in params if k.startswith("text.") or ".attn2." in k})
    if a.resume and a.state.exists():
        run.resume(a.state)
    counts, total = pixel_weights(FINE, parts.SIZE).to(device), a.images // a.batch
    while run.step < total:
        seed = a.seed * 1_000_003 + run.step
        g = torch.Generator().manual_seed(seed)
        faces = sample(a.batch, g)
        x = render(faces, parts.SIZE, device=device)[0] * 2 - 1
        t = random_steps(schedule, a.batch, g).to(device)
        said = captions(faces, random.Random(seed))  # noqa: S311
        tokens = torch.tensor([[place[t] for t in row] for row in tokenize(tokenizer, said)]).to(device)
        seen, target = noised(schedule, x, torch.randn(x.shape, generator=g).to(device), t)
        with torch.autocast(device.type, torch.bfloat16):
            out = net(seen, t, tokens)
        run.learn((counts * (out.float() - target).square()).mean(), a.lr * rate(run.step, total, 300))
        run.tell(total, a.batch)
        if run.due(a.minutes_between_saves, total):
            info = {"images": run.step * a.batch, "minutes": round(run.seconds / 60, 1), "device": a.device}
            state = {k: v.half() for k, v in {**net.state_dict(), **run.ema}.items()} | {
                "text.rows": torch.tensor(rows, dtype=torch.float32)
            }
            a.out.parent.mkdir(parents=True, exist_ok=True)
            write_own(a.out, state, {"format": parts.FORMAT, "version": parts.VERSION, **info})
            run.save(a.state)
    print(f"{run.step * a.batch} images in {run.seconds / 60:.0f} minutes on {device}", flush=True)


if __name__ == "__main__":
    main()
