"""The embedded face model: inversion, samples, and what its bottleneck knows. ``python dev.py bench
embedded_model``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from benchmarks._faces import held_out, karras, models
from benchmarks._report import bar, write
from core.faces.factors import BY_NAME, EYE_COLORS, HAIR_COLORS, sample
from core.faces.regressor import measure_scores
from core.faces.render import render
from core.invert.ddim import invert_ddim
from core.invert.fixed_point import invert_fixed_point
from core.measure.image import psnr
from core.sample import reconstruct, sample_ddim
from core.weights_folder import weights_folder

LAYER, SIGMAS = "middle", (0.15, 0.25, 0.5, 0.85)
TRUE_SHARES = {"glasses": (0.65, 0.35), "hair_color": (0.2,) * 5, "eye_color": (1 / 3,) * 3}


def inversion(model) -> dict[str, float]:
    """PSNR of 64 held-out faces after 50 steps up and 50 down, in dB: mean and worst."""
    _, x = held_out(64)
    sigmas = karras(50, float(model.schedule.sigmas[-1]))
    found = {}
    for name, path in (
        ("plain", invert_ddim(model, x, sigmas, convention="A")),
        ("plain, convention B", invert_ddim(model, x, sigmas, convention="B")),
        ("fixed point, 3 iterations", invert_fixed_point(model, x, sigmas, iterations=3)),
    ):
        quality = psnr(reconstruct(model, path).rebuilt, x)
        found |= {f"{name}, mean dB": float(quality.mean()), f"{name}, worst dB": float(quality.min())}
    return found


def samples(model, regressor, n: int = 256) -> tuple[Tensor, dict[str, float]]:
    """Samples, and the share of every discrete class in them as a fraction of its true share."""
    sigmas = karras(50, float(model.schedule.sigmas[-1]))
    noise = torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * sigmas[0].float()
    x = torch.cat([sample_ddim(model, part, sigmas) for part in noise.split(64)]).clamp(-1, 1)
    scores = measure_scores(regressor, (x + 1) / 2)
    shares = {}
    for factor, names in (("hair_color", HAIR_COLORS), ("eye_color", EYE_COLORS)):
        chosen = scores[factor].argmax(1)
        shares |= {
            f"{factor} {v}": float((chosen == i).float().mean()) / TRUE_SHARES[factor][i] for i, v in enumerate(names)
        }
    worn = float((scores["glasses"] > 0.5).float().mean())
    shares |= {"glasses on": worn / TRUE_SHARES["glasses"][1], "glasses off": (1 - worn) / TRUE_SHARES["glasses"][0]}
    return x, shares


def probe(model, sigma: float, factors: tuple[str, ...], n: int = 3200) -> dict[str, float]:
    """R2 of a ridge regression from h at one noise level, on a quarter of ``n`` faces that it was not fitted to."""
    g = torch.Generator().manual_seed(11)
    faces = sample(n, g)
    x = render(faces, 64)[0] * 2 - 1
    noisy = x + sigma * torch.randn(x.shape, generator=g)
    with torch.no_grad():
        h = torch.cat(
            [model.split(part, part.new_full((len(part),), sigma), LAYER).h.flatten(1) for part in noisy.split(100)]
        ).double()
    fit = n * 3 // 4
    h = (h - h[:fit].mean(0)) / (h[:fit].std(0) + 1e-6) / h.shape[1] ** 0.5
    wanted = torch.stack([faces[f] for f in factors], 1).double()
    centre = wanted[:fit].mean(0)
    kernel = h @ h[:fit].T
    inner = fit * 4 // 5  # the ridge is chosen inside the fitting part
    errors: dict[float, float] = {}
    for ridge in (1e-4, 1e-3, 1e-2, 3e-2, 1e-1):
        weights = torch.linalg.solve(
            kernel[:inner, :inner] + ridge * torch.eye(inner, dtype=h.dtype), wanted[:inner] - centre
        )
        errors[ridge] = float((kernel[inner:fit, :inner] @ weights + centre - wanted[inner:fit]).square().mean())
    ridge = min(errors, key=lambda r: errors[r])
    weights = torch.linalg.solve(kernel[:fit] + ridge * torch.eye(fit, dtype=h.dtype), wanted[:fit] - centre)
    error = (kernel[fit:] @ weights + centre - wanted[fit:]).square().mean(0)
    return {f: float(v) for f, v in zip(factors, 1 - error / wanted[fit:].var(0), strict=True)}


def sheet(x: Tensor, path: Path, columns: int = 8, scale: int = 2) -> None:
    """Save pictures `[n 3 h w]` in -1..1 as one sheet."""
    rows = [torch.cat(list(row), 2) for row in x.split(columns)]
    pixels = ((torch.cat(rows, 1) + 1) * 127.5).round().clamp(0, 255).byte().movedim(0, -1).numpy()
    picture = Image.fromarray(pixels)
    path.parent.mkdir(exist_ok=True)
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Measure and write."""
    torch.set_grad_enabled(False)
    model, regressor = models()
    weights = weights_folder() / "face_model.safetensors"
    with safe_open(weights, "pt") as f:
        trained = json.loads(f.metadata()["hspace"])
    quality = inversion(model)
    x, shares = samples(model, regressor)
    sheet(x[:64], Path("assets/samples.png"))
    knows = {
        s: probe(model, s, tuple(f for f in BY_NAME if not BY_NAME[f].circular and BY_NAME[f].classes in (0, 2)))
        for s in SIGMAS
    }
    both = {s: min(v["smile"], v["eye_open"]) for s, v in knows.items()}
    chosen = max(both, key=lambda s: both[s])
    rarest = min(shares, key=lambda s: shares[s])
    rows = [{"factor": f, **{f"R2 at sigma {s}": round(v[f], 2) for s, v in knows.items()}} for f in knows[chosen]]
    write(
        "embedded_model",
        {
            "rows": rows,
            "inversion": quality,
            "class shares over true shares": shares,
            "trained": trained,
            "layer": LAYER,
            "probe sigma": chosen,
            "parameters": sum(p.numel() for p in model.net.parameters()),
        },
        [
            bar("file size, MB", weights.stat().st_size / 1e6, "<=", 12),
            bar("inversion and back, 50 steps plain, mean dB", quality["plain, mean dB"], ">=", 34),
            bar(
                "inversion and back, 50 steps fixed point, mean dB",
                quality["fixed point, 3 iterations, mean dB"],
                ">=",
                45,
            ),
            bar(f"rarest class among 256 samples ({rarest}), share of its true frequency", shares[rarest], ">=", 0.5),
            bar(f"linear probe of h, smile, sigma {chosen}: R2", knows[chosen]["smile"], ">=", 0.5),
            bar(f"linear probe of h, eye opening, sigma {chosen}: R2", knows[chosen]["eye_open"], ">=", 0.5),
        ],
    )


if __name__ == "__main__":
    main()
