"""Convert a released diffusion autoencoder (arXiv 2111.15640) to one small safetensors file, running no code of it.

``hspace convert-diffae last.ckpt --cls cls.ckpt --out ffhq256.safetensors --half``. Kept are the averaged
weights, the statistics of the codes and the latent network; optimiser, raw weights and Lightning's objects are left
behind.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..files.diffae import load_autoencoder, save_autoencoder
from ..files.heads import load_heads, save_heads


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert the file that the command line names."""
    p = argparse.ArgumentParser(prog="hspace convert-diffae", description=str(__doc__).splitlines()[0])
    p.add_argument("checkpoint", type=Path, help="last.ckpt of an autoencoder, or of its latent network")
    p.add_argument("--cls", type=Path, help="last.ckpt of its classifier: statistics, and heads if --heads is given")
    p.add_argument("--latent", type=Path, help="latent.pkl: statistics")
    p.add_argument("--out", type=Path, required=True, help="where to write the .safetensors file")
    p.add_argument("--heads", type=Path, help="where to write the attribute heads of --cls")
    p.add_argument("--half", action="store_true", help="float16: half the size")
    a = p.parse_args(arguments)
    try:
        for path in filter(None, (a.out, a.heads)):
            if path.suffix != ".safetensors":
                raise ValueError(f"{path.name}: the file to write must end in .safetensors")
        if a.heads and not a.cls:
            raise ValueError("--heads needs --cls, the checkpoint of the classifier")
        made = load_autoencoder(a.checkpoint, a.latent or a.cls)
        save_autoencoder(a.out, made, a.half)
        if a.heads:
            heads = load_heads(a.cls, made.space)
            save_heads(a.heads, heads)
            print(f"{a.heads}: {len(heads.names)} attributes")
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    parts = [f"{made.image_size} pixels", f"codes {list(made.space.shape)}", f"model {made.fingerprint}"]
    parts.append(
        "with statistics"
        if made.space.mean is not None
        else "WITHOUT statistics of its codes: give --cls or --latent to edit"
    )
    parts += ["with its latent network"] if made.latent is not None else []
    print(f"{a.out}: {', '.join(parts)}, {a.out.stat().st_size / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
