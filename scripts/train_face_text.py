"""Train the text-conditional face model on the renderer's stream: ``python -m scripts.train_face_text --resume``.

U-Net and text tower are the host's own classes, trained together on pictures with captions, 12 % of which are left
empty for guidance (arXiv 2207.12598). The stream is a function of the seed and the step alone; ``--resume`` goes on
exactly where a run stopped.
"""

from __future__ import annotations

import math
import random
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from core.faces.captions import caption
from core.faces.embedder import WORDS
from core.faces.factors import sample
from core.faces.render import render
from core.faces.words import ATTRIBUTES, attributes, describe
from core.files.exchange import marked
from core.files.kinds import FACE_TEXT
from core.own_file import write_own
from core.train.noised import noised
from core.train.run import Run, rate
from core.train.session import begin_run, options
from core.weights_folder import weights_folder
from devtools.inprocess import host, pack
from scripts.face_emphasis import FINE, pixel_weights
from scripts.train_face_model import random_steps

EMPTY = 0.12
WORDS_RATE = 3.0
"""Learning rate of all that reads words, of the rest's: at first each of 77 tokens has one part in 77 of an
attention."""


class Both(nn.Module):
    """Text tower and U-Net."""

    def __init__(self, parts, words: int):
        super().__init__()
        self.text, self.unet = parts.text_tower(), parts.unet()
        self.text.set_input_embeddings(
            parts.comfy.ops.manual_cast.Embedding(words, parts.TEXT["hidden_size"])
        )  # those that occur
        for module in self.modules():
            _initialise(module)
        nn.init.eye_(self.text.text_projection.weight)
        self.text.text_projection.requires_grad_(False)  # of the pooled vector, which this U-Net does not take
        for name, weight in self.named_parameters():
            if name.endswith(("out_layers.3.weight", "proj_out.weight", "unet.out.2.weight")):
                nn.init.zeros_(weight)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Compute the output `[b 3 h w]` for pictures of captions' tokens `[b 77]`, counted among those in use."""
        return self.unet(
            x, t, context=self.text(tokens)[0], transformer_options={"optimized_attention_override": _attention}
        )


def _attention(_, q: Tensor, k: Tensor, v: Tensor, heads: int, **_kwargs) -> Tensor:
    """Attend in the open: on a CPU twice as fast in bfloat16 as the fused kernel's backward pass."""
    q, k, v = (a.unflatten(-1, (heads, -1)).transpose(1, 2) for a in (q, k, v))
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1).to(v.dtype).matmul(v).transpose(1, 2).flatten(2)


def _initialise(module: nn.Module) -> None:
    """Initialise weights, which the host's layers leave as they are in memory."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.1)
    elif isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
        if isinstance(
            module, nn.LayerNorm
        ):  # the host adds to a layer's input in place, which a backward pass does not allow
            module.register_forward_pre_hook(lambda _, args: (args[0].clone(), *args[1:]))


def captions(faces: dict[str, Tensor], rng: random.Random) -> list[str]:
    """Write full captions, sentences about some attributes, and empty ones."""
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
    """List the tokens of all that captions can say, with those of beginning and end."""
    return sorted({t for row in tokenize(tokenizer, list(WORDS)) for t in row})


def tokenize(tokenizer, prompts: list[str]) -> list[list[int]]:
    """Cut each into 77 tokens, as the host does."""
    return [[t for t, _ in tokenizer.tokenize_with_weights(p)["l"][0]] for p in prompts]


def main() -> None:
    """Train the embedded text model."""
    a = options(__doc__, weights_folder() / "face_text.safetensors", images=400_000, seed=21).parse_args()
    device = torch.device(a.device)
    host(cpu=device.type == "cpu")
    parts = pack("nodes.host.model.face_text")
    tokenizer, schedule = parts.comfy.sd1_clip.SD1Tokenizer(), parts.SCHEDULE
    rows = every_word(tokenizer)
    place = {token: i for i, token in enumerate(rows)}
    torch.manual_seed(a.seed)
    net = Both(parts, len(rows)).to(device).train()
    trained = [name for name, value in net.named_parameters() if value.requires_grad]
    faster = {name: WORDS_RATE for name in trained if name.startswith("text.") or ".attn2." in name}

    def write(path: Path, run: Run) -> None:
        facts = {
            "images": run.i * a.batch,
            "minutes": round(run.seconds / 60, 1),
            "device": a.device,
        }
        state = {k: v.half() for k, v in {**net.state_dict(), **run.average}.items()}
        write_own(path, state | {"text.rows": torch.tensor(rows, dtype=torch.float32)}, marked(FACE_TEXT, facts))

    run = begin_run(a, net, write, factors=faster)
    counts = pixel_weights(FINE, parts.SIZE).to(device)

    def loss(g: torch.Generator) -> Tensor:
        faces = sample(a.batch, g)
        x = render(faces, parts.SIZE, device=device)[0] * 2 - 1
        t = random_steps(schedule, a.batch, g).to(device)
        said = captions(faces, random.Random(g.initial_seed()))  # noqa: S311
        tokens = torch.tensor([[place[t] for t in row] for row in tokenize(tokenizer, said)]).to(device)
        seen, target = noised(schedule, x, torch.randn(x.shape, generator=g).to(device), t)
        with torch.autocast(device.type, torch.bfloat16):
            out = net(seen, t, tokens)
        return (counts * (out.float() - target).square()).mean()

    run.train(loss, a.seed, partial(rate, warm_up=300))
    print(f"{run.i * a.batch} images in {run.seconds / 60:.0f} minutes on {device}", flush=True)


if __name__ == "__main__":
    main()
