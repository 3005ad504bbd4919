"""Every reader of the pack, and the memory that each takes for a hostile file.

Run as a program (``python -m tests.core.hostile_readers FOLDER``), it prints a JSON row for each reader and kind.
"""

import json
import sys
from pathlib import Path

import torch

from core.codes import CodeSpace
from core.faces.embedder import load_embedder
from core.faces.regressor import load_regressor
from core.files import code_edits as code_edit_io
from core.files import heads as heads_io
from core.files.asyrp import load_asyrp, load_released_asyrp
from core.files.checkpoint import load_network
from core.files.diffae import load_autoencoder
from core.files.diffae_parts import read_statistics
from core.files.diffusionclip import load_weights
from core.files.dino import load_dino
from core.files.directions import load_directions
from core.files.kinds import DELTAEDIT
from core.files.lpips import load_lpips
from core.files.rectifier import load_rectifier
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.own_file import Form, read_own
from core.schedule import Schedule
from core.train.run import Optimiser, Run
from core.train.state import load_state

from .hostile_files import HEADERS, HOLE, PICKLES, SLOW, holed

BIG = (16384, 16384)


def own_header(form, version=1, **facts):
    """Metadata of a file of the pack."""
    return {
        "hspace": json.dumps(
            {"format": form, "version": version, "fingerprint": "0123456789ab", "label": "x", "extra": {}, **facts}
        )
    }


DELTA = own_header(
    "hspace.delta", layer="middle", sigma_edit=1.0, sigma_boost=0.0, steps=3, kind="ddpm", ddpm_step=True
)
RECTIFIER = own_header(
    "hspace.rectifier",
    shapes={"a": [4, 4]},
    channels=4,
    width=4,
    code=4,
    ddpm_step=True,
    edit=False,
    sigma_start=1.0,
)
MAPPER = own_header("hspace.delta_mapper", shape=[4], embedding=4, width=4, space="s")
HEADS = own_header("hspace.heads", names=["a"], kinds=["mean"], shape=[4])
DIRECTIONS = {
    "hspace": json.dumps(
        {
            "format": "hspace.directions",
            "version": 1,
            "layer": "middle",
            "fingerprint": "0123456789ab",
            "method": "",
            "labels": [],
            "sigmas": [1.0],
        }
    )
}
VECTORS = {"vectors": (1, 1, 1, 1, 1), "leak": (1, 1), "spectrum": (1,), "gain": BIG}


def readers():
    """name -> (what reads a path, suffix of pickles or None, names that it knows, shapes it would look at,
    metadata)."""
    return {**foreign_readers(), **own_readers(), **training_readers()}


def foreign_readers():
    """Readers of released files, pickles among them."""
    net = DDPMUNet(DDPMConfig(3, 3, (32,), 1, (False,), mid_attention=False))
    levels = Schedule("linear").sigmas
    return {
        "network": (load_network, ".pt", ["temb.dense.0.weight"], {"temb.dense.0.weight": BIG}, None),
        "autoencoder": (
            load_autoencoder,
            ".ckpt",
            ["encoder.out.3.weight", "conds_mean", "conds_std"],
            {"encoder.out.3.weight": BIG},
            None,
        ),
        "statistics": (
            read_statistics,
            ".pkl",
            ["conds_mean", "conds_std"],
            {"conds_std": (4,), "conds_mean": (HOLE // 4,)},
            None,
        ),
        "released heads": (
            lambda path: heads_io.load_heads(path, CodeSpace((4,), "0123456789ab", torch.zeros(4), torch.ones(4))),
            ".ckpt",
            ["classifier.weight", "classifier.bias", "conds_mean", "conds_std"],
            {"classifier.weight": BIG},
            None,
        ),
        "lpips": (
            load_lpips,
            ".pth",
            ["lin0.model.1.weight", "net.slice1.0.weight"],
            {"lin0.model.1.weight": BIG},
            None,
        ),
        "dino": (
            load_dino,
            ".pth",
            ["patch_embed.proj.weight", "blocks.0.norm1.weight", "pos_embed"],
            {
                "patch_embed.proj.weight": (2048, 3, 64, 64),
                "pos_embed": (1, 26, HOLE // 104),
                "blocks.0.norm1.weight": (1,),
            },
            None,
        ),
        "asyrp": (
            lambda path: load_released_asyrp(path, net, levels, "0123456789ab", channels=32, sigma_edit=1.0),
            ".pth",
            ["1", "2"],
            {"1": BIG},
            None,
        ),
    }


def own_readers():
    """Readers of the files that users exchange."""
    return {
        "delta": (
            load_asyrp,
            None,
            [],
            {
                "delta.step.first.weight": (4, 4),
                "delta.step.levels": (4,),
                "delta.block.conv1.weight": (7000, 7000, 1, 1),
            },
            DELTA,
        ),
        "weights": (load_weights, None, [], {"model.diffusion_model.a": BIG}, own_header("hspace.weights")),
        "rectifier": (load_rectifier, None, [], {"step.first.weight": (4, 4), "step.levels": (HOLE // 4,)}, RECTIFIER),
        "delta mapper": (
            lambda path: code_edit_io.load_code_edit(path, DELTAEDIT),
            None,
            [],
            {"mean": (4,), "std": (4,), "net.x": (8192, 8000)},
            MAPPER,
        ),
        "heads": (
            heads_io.load_heads,
            None,
            [],
            {"weight": (4000, 4000), "bias": (1,), "mean": (4,), "std": (4,)},
            HEADS,
        ),
        "directions": (load_directions, None, [], {**VECTORS, "gain": (10_000, 10_000)}, DIRECTIONS),
    }


def training_readers():
    """Readers of states of training, and of what ships with the pack."""
    module = torch.nn.Linear(2, 2)
    run = Run(module, Optimiser(1e-3), 3)
    parameters = torch.nn.ParameterDict({"a": torch.nn.Parameter(torch.zeros(2))})
    long_run = Run(parameters, Optimiser(1e-3, "adamw"), 3, ema=0.9)

    return {
        "training": (
            lambda path: load_state(path, run, None),
            None,
            [],
            {"module.weight": BIG, "losses": (3,)},
            own_header("hspace.training", 2, i=1),
        ),
        "long run": (
            lambda path: load_state(path, long_run, {}),
            None,
            [],
            {"net.a": BIG},
            {"step": "1", "seconds": "1.0"},
        ),
        "regressor": (load_regressor, None, [], {"head.1.weight": BIG}, own_header("hspace_face_regressor")),
        "embedder": (load_embedder, None, [], {"scale": BIG}, own_header("hspace_face_embedder")),
        "own file": (lambda path: read_own(path, Form("f", 1, 2**20)), None, [], {"a": BIG}, own_header("f")),
    }


def peak():
    """Most resident memory so far, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


def settle():
    """Let the peak begin anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def main(folder):
    torch.set_num_threads(1)
    for name, (read, suffix, names, shapes, meta) in readers().items():
        kinds = {"hole": (".safetensors", lambda path, _, s=shapes, m=meta: holed(path, s, m))}
        kinds |= {
            kind: (".safetensors", make) for kind, make in HEADERS.items() if name == "network" or kind not in SLOW
        }
        if suffix:
            kinds |= {kind: (suffix, make) for kind, make in PICKLES.items() if name == "network" or kind not in SLOW}
        for kind, (ending, make) in kinds.items():
            path = folder / f"{name}{ending}"
            make(path, names)
            settle()
            before = peak()
            try:
                read(path)
                said = "it was read"
            except ValueError as error:
                said = f"ValueError {error}"
            except Exception as error:
                said = f"{type(error).__name__} {error}"
            print(json.dumps([name, kind, peak() - before, said]), flush=True)
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
