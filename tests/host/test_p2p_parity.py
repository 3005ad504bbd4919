"""Prompt-to-Prompt with local blend against the published loop, written out: Euler, maps of all steps, blend of the
result of a step."""

from itertools import pairwise

import pytest
import torch

from .pair_graphs import p2p, sample, small

N, CFG, SELF, CROSS, LEVEL = 6, 7.5, 0.5, 0.8, 1
STARTS = (0.0, 0.2, 0.5)


def parts(executor, start: float, threshold: float):
    """MODEL, the pair, its map of tokens, the rows of latents, levels, and the MODEL with the pack's edits."""
    prompt = small() | {
        "edited": p2p(mode="replace", cross_end=CROSS, self_end=SELF, self_resolution="half"),
        "blended": _blend(start, threshold),
        "sigmas": {
            "class_type": "BasicScheduler",
            "inputs": {"model": ["model", 0], "scheduler": "karras", "steps": N, "denoise": 1.0},
        },
    }
    prompt["out"] = sample(("blended", 0), negative=("model", 2), steps=N, cfg=CFG)
    (model, _, negative), (pair, tokens), (rows,), (sigmas,), (blended,), (out,) = executor.run(
        prompt, "model", "pair", "rows", "sigmas", "blended", "out"
    )
    return model, pair, tokens, negative, rows["samples"], sigmas, blended, out["samples"]


def _blend(start: float, threshold: float) -> dict:
    inputs = {
        "model": ["edited", 0],
        "tokens": ["pair", 1],
        "words": "cat",
        "threshold": threshold,
        "start": start,
        "without": "",
    }
    return {"class_type": "HSpaceP2PLocalBlend", "inputs": inputs}


class Loop:
    """The released code: the maps of both attentions in place of the host's, those of the words summed, and the
    blend."""

    def __init__(self, executor, model, tokens, threshold: float, start: float):
        core = executor.module("core.edit.attention.tokens")
        self.prompts = core.tokens_from_payload(tokens)
        self.shares, self.alpha = core.token_map(*self.prompts, "replace")
        self.threshold, self.first = threshold, int(N * start)
        self.step, self.maps, self.model = 0, [], model.clone()
        for name in ("input", "middle", "output"):
            for i in range(12):
                self.model.set_model_attn2_replace(self.cross, name, i, 0)
                self.model.set_model_attn1_replace(self.self_attention, name, i)

    def probabilities(self, q, k, extra):
        q, k = (t.unflatten(-1, (extra["n_heads"], -1)).transpose(1, 2) for t in (q, k))
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)

    def applied(self, maps, v, extra):
        return (maps @ v.unflatten(-1, (extra["n_heads"], -1)).transpose(1, 2)).transpose(1, 2).flatten(2)

    def rows(self, extra):
        """First row of the positive prompt's."""
        return 2 * extra["cond_or_uncond"].index(0)

    def self_attention(self, q, k, v, extra):
        maps, at = self.probabilities(q, k, extra), self.rows(extra)
        if self.step < int(N * SELF) and q.shape[1] <= 64:
            maps[at + 1] = maps[at]
        return self.applied(maps, v, extra)

    def cross(self, q, k, v, extra):
        maps, at = self.probabilities(q, k, extra), self.rows(extra)
        if self.step < int((N + 1) * CROSS):
            alpha = self.alpha.to(maps)
            maps[at + 1] = maps[at] @ self.shares.to(maps) * alpha + maps[at + 1] * (1 - alpha)
        if q.shape[1] == 64:  # 8x8 of 16x16
            words = [maps[at + r].mean(0)[:, prompt.find("cat")].sum(-1) for r, prompt in enumerate(self.prompts)]
            self.maps_of_step.append(torch.stack(words))
        return self.applied(maps, v, extra)

    def blend(self, x):
        maps = torch.stack(self.maps).sum(0).reshape(2, 1, 8, 8)
        maps = torch.nn.functional.interpolate(torch.nn.functional.max_pool2d(maps, 3, 1, 1), x.shape[-2:])
        mask = maps / maps.amax((2, 3), keepdim=True) > self.threshold
        return torch.where(mask[:1] | mask, x, x[:1])

    def sampler(self, states=None):
        def euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
            x = x if states is None else states[0].repeat(2, 1, 1, 1).to(x)
            for i, (sigma, nxt) in enumerate(pairwise(sigmas)):
                self.step, self.maps_of_step = i, []
                denoised = model(x, sigma * x.new_ones(2), **extra_args)
                self.maps.append(torch.stack(self.maps_of_step).mean(0))
                x = x + (x - denoised) / sigma * (nxt - sigma)
                if states is not None:
                    x[:1] = states[i + 1]
                if i >= self.first:
                    x = self.blend(x)
            return x

        return euler

    def run(self, pair, negative, sigmas, latent, states=None, seed=5):
        import comfy.sample
        import comfy.samplers

        guider = comfy.samplers.CFGGuider(self.model)
        guider.set_conds(pair, negative)
        guider.set_cfg(CFG)
        noise = comfy.sample.prepare_noise(latent[:1], seed).repeat(2, 1, 1, 1)
        with torch.inference_mode():
            return guider.sample(
                noise, latent, comfy.samplers.KSAMPLER(self.sampler(states)), sigmas, seed=seed, disable_pbar=True
            )


def apart(a, b) -> float:
    return float((a - b).norm() / a.norm())


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("threshold", [0.8, 0.9])
def test_stock_euler(executor, start, threshold):
    model, pair, tokens, negative, latent, sigmas, _, out = parts(executor, start, threshold)
    loop = Loop(executor, model, tokens, threshold, start)
    wanted = loop.run(pair, negative, sigmas, latent)
    assert apart(wanted[1], out[1]) < 1e-5 and apart(wanted[0], out[0]) < 1e-5
    assert apart(wanted[0], wanted[1]) > 1e-3


@pytest.mark.parametrize("start", STARTS)
def test_resume_with_direct_inversion(executor, start):
    model, pair, tokens, negative, latent, sigmas, blended, _ = parts(executor, start, 0.8)
    pairs = executor.module("nodes.host.patches.pairs")
    pair = [[pair[0][0], {**pair[0][1], pairs.PAIR: 2}]]
    (vae,) = executor.run({"vae": {"class_type": "HSpaceTestVAE", "inputs": {"network": "tiny"}}}, "vae")[0]
    image = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(2))
    path, *_ = executor.call(
        "HSpaceInvertImage",
        model=model,
        image=image,
        sigmas=sigmas,
        method="fixed point",
        iterations=2,
        vae=vae,
        positive=pairs.first_row(pair),
    )
    sampler, levels = executor.call("HSpaceResumeTrajectory", trajectory=path, asymmetric=False)
    (guider,) = executor.call("CFGGuider", model=blended, positive=pair, negative=negative, cfg=CFG)
    (noise,) = executor.call("DisableNoise")
    out, _ = executor.call(
        "SamplerCustomAdvanced",
        noise=noise,
        guider=guider,
        sampler=sampler,
        sigmas=levels,
        latent_image={"samples": latent},
    )
    loop = Loop(executor, model, tokens, 0.8, start)
    wanted = loop.run(pair, negative, levels, latent, path["states"])
    assert apart(wanted[1], out["samples"][1]) < 1e-5 and apart(wanted[0], out["samples"][0]) < 1e-5
    assert apart(wanted[0], wanted[1]) > 1e-3
