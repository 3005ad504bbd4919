"""Train the text-conditional face model on the renderer's stream: ``python -m devtools.train_face_text --resume``.

U-Net and text tower are the host's own classes, trained together on pictures with captions, 12 % of which are left empty for guidance
(arXiv 2207.12598). The stream is a function of the seed and the step alone; ``--resume`` goes on exactly where a run stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from core.faces.captions import caption
from core.faces.embedder import WORDS
from core.faces.factors import sample
from core.faces.render import render
from core.faces.train_model import random_steps
from core.faces.words import ATTRIBUTES, attributes, describe

from .inprocess import ROOT, host, pack

EMPTY = 0.12
WORDS_RATE = 3.0
"""Learning rate of all that reads words, of the rest's: at first each of 77 tokens has one part in 77 of an attention."""
FINE = {"smile": (-0.8, 0.8), "glasses": (0.0, 1.0), "eye_open": (0.1, 0.8), "mouth_open": (0.0, 0.9)}
"""Factors that captions name and few pixels show."""


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


def weights(count: int = 512) -> Tensor:
    """How much each pixel counts, `[1 1 h w]`, mean 1: most where :data:`FINE` show. A fixed map leaves the best prediction what it is."""
    faces, size = sample(count, torch.Generator().manual_seed(1)), pack("nodes.host.face_text").SIZE
    change = torch.zeros(1, 1, size, size)
    for name, ends in FINE.items():
        low, high = (render({**faces, name: torch.full_like(faces[name], end)}, size)[0] for end in ends)
        moved = (low - high).square().mean((0, 1), keepdim=True)
        change += moved / moved.mean() / len(FINE)
    change = F.avg_pool2d(change, 5, 1, 2).sqrt() + 0.15
    return change / change.mean()


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
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--out", type=Path, default=ROOT / "weights" / "face_text.safetensors")
    p.add_argument("--state", type=Path, default=ROOT / "output" / "face_text_state.safetensors", help="training state for --resume")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--images", type=int, default=400_000, help="length of the whole schedule")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--ema", type=float, default=0.9995)
    p.add_argument("--seed", type=int, default=21)
    p.add_argument("--minutes-between-saves", type=float, default=4)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    device = torch.device(a.device)
    host(cpu=device.type == "cpu")
    parts, tokenizer = pack("nodes.host.face_text"), pack("nodes.host.face_text").comfy.sd1_clip.SD1Tokenizer()
    rows, schedule = every_word(tokenizer), parts.SCHEDULE
    place = {token: i for i, token in enumerate(rows)}
    torch.manual_seed(a.seed)
    net = Both(parts, len(rows)).to(device).train()
    params = {k: v for k, v in net.named_parameters() if v.requires_grad}
    reads = {k: v for k, v in params.items() if k.startswith("text.") or ".attn2." in k}
    params = reads | params
    ema = {k: v.detach().clone() for k, v in params.items()}
    groups = [{"params": list(reads.values())}, {"params": [v for k, v in params.items() if k not in reads]}]
    optimiser = torch.optim.AdamW(groups, a.lr, betas=(0.9, 0.99), weight_decay=1e-3, foreach=True)
    counts = weights().to(device)
    step, spent = 0, 0.0
    if a.resume and a.state.exists():
        step, spent = _load(a.state, params, ema, optimiser)
        print(f"resumed at step {step}", flush=True)
    total = a.images // a.batch
    started = saved = time.perf_counter()
    losses: list[float] = []
    while step < total:
        rate = a.lr * min(1.0, (step + 1) / 300) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * max(0.0, step / total - 0.4) / 0.6)))
        for group, times in zip(optimiser.param_groups, (WORDS_RATE, 1.0), strict=True):
            group["lr"] = rate * times
        seed = a.seed * 1_000_003 + step
        g = torch.Generator().manual_seed(seed)
        faces = sample(a.batch, g)
        x = render(faces, parts.SIZE, device=device)[0] * 2 - 1
        t = random_steps(schedule, a.batch, g).to(device)
        said = captions(faces, random.Random(seed))  # noqa: S311
        tokens = torch.tensor([[place[t] for t in row] for row in tokenize(tokenizer, said)]).to(device)
        noise = torch.randn(x.shape, generator=g).to(device)
        abar = schedule.abar.to(device)[t].float()[:, None, None, None]
        target = abar.sqrt() * noise - (1 - abar).sqrt() * x
        with torch.autocast(device.type, torch.bfloat16):
            out = net(abar.sqrt() * x + (1 - abar).sqrt() * noise, t, tokens)
        loss = (counts * (out.float() - target).square()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        decay = min(a.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(ema.values()), [p.detach() for p in params.values()], 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        losses.append(loss.item())
        now = time.perf_counter()
        if step % 100 == 0:
            speed = a.batch * len(losses) / (now - started)
            print(f"step {step}/{total}  loss {sum(losses[-100:]) / 100:.4f}  {speed:.0f} images/s", flush=True)
        if now - saved > 60 * a.minutes_between_saves or step == total:
            saved = now
            _save(a, parts, net, rows, step, spent + now - started, params, ema, optimiser)
    print(f"{step * a.batch} images in {(spent + time.perf_counter() - started) / 60:.0f} minutes on {device}", flush=True)


def _save(a, parts, net: Both, rows: list[int], step: int, seconds: float, params: dict, ema: dict, optimiser) -> None:
    info = {
        "format": parts.FORMAT, "version": parts.VERSION, "images": step * a.batch, "minutes": round(seconds / 60, 1), "device": a.device,
    }  # fmt: skip
    weights = {k: v.half() for k, v in {**net.state_dict(), **ema}.items()} | {"text.rows": torch.tensor(rows, dtype=torch.float32)}
    _replace(weights, a.out, {"hspace": json.dumps(info)})
    state = {f"net.{k}": v.detach() for k, v in params.items()} | {f"ema.{k}": v for k, v in ema.items()}
    for (name, _), slot in zip(params.items(), optimiser.state_dict()["state"].values(), strict=True):
        state |= {f"m.{name}": slot["exp_avg"], f"v.{name}": slot["exp_avg_sq"]}
    _replace(state, a.state, {"step": str(step), "seconds": f"{seconds:.1f}"})


def _replace(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, part, metadata=metadata)
    part.replace(path)


def _load(path: Path, params: dict, ema: dict, optimiser) -> tuple[int, float]:
    state = load_file(path)
    with safe_open(path, "pt") as f:
        meta = f.metadata()
    step = int(meta["step"])
    with torch.no_grad():
        for k, p in params.items():
            p.copy_(state[f"net.{k}"])
            ema[k].copy_(state[f"ema.{k}"])
            slots = {"exp_avg": state[f"m.{k}"].to(p.device), "exp_avg_sq": state[f"v.{k}"].to(p.device)}
            optimiser.state[p] = {"step": torch.tensor(float(step)), **slots}
    return step, float(meta["seconds"])


if __name__ == "__main__":
    main()
