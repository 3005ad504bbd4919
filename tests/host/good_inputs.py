"""A small good value for every input of every node, made once in a host in this process."""

from __future__ import annotations

import shutil
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from devtools.console import ROOT

from .graphs import AS_IT_IS

WEIGHTS = ROOT / "weights"
_FILES = {"face_model.safetensors": "faces.safetensors", "face_diffae.safetensors": "codes.safetensors"}
_CHEAP = {
    "k": 1,
    "max_k": 1,
    "max_rank": 0,
    "iterations": 1,
    "levels_at_once": 1,
    "frames": 2,
    "inner_steps": 1,
    "repeats": 1,
    "epochs": 1,
    "batch": 2,
    "width": 8,
    "columns": 3,
    "count": 1,
    "variants": 1,
    "steps": 2,
    "skip": 1,
    "code": 4,
    "direction": 1,
    "source_vectors": 2,
    "target_vectors": 2,
    "leading": 2,
    "sigma_edit": 0.5,
    "sigma_start": 0.0,
    "cfg": 1.0,
}
_SMALL = {"model": "small model", "trajectory": "small trajectory", "levels": 1, "mask": "small mask"}
_BY_NODE: dict[str, dict[str, Any]] = {
    "HSpaceDiscoverRegion": _SMALL,
    "HSpaceRegionBasis": _SMALL,
    "HSpaceTrackDirections": _SMALL,
    "HSpaceGlobalDirections": _SMALL,
    "HSpaceBaselineDirections": {**_SMALL, "rank": 1},
    "HSpaceMeanDifference": {"positive": "two states", "without": None},
    "HSpaceDials": {"sigma_end": 0.005, "frames": 3, "protect": 0.5, "dial_1": 0.5},
    "HSpaceDirectionAtlas": {"sigma_end": 0.005},
    "HSpaceEncodeCode": {"model": "coded"},
    "HSpaceSampleCodes": {"model": "coded", "count": 1},
    "HSpaceLoadHeads": {"model": "coded", "file": "hspace/face_diffae.safetensors"},
    "HSpaceLoadAsyrp": {"checkpoint": "asyrp.pth"},
    "HSpaceLoadDiffAE": {"checkpoint": "codes.safetensors"},
    "HSpaceLoadDiffusionCLIP": {"checkpoint": "faces.safetensors"},
    "HSpaceLoadPixelModel": {"checkpoint": "faces.safetensors"},
    "HSpaceCheckModel": {"model": "small model", "image": "little face", "clip": None, "positive": None},
    "HSpaceDemoFace": {"source": "dials"},
    "HSpaceFitPhoto": {"framing": "region", "size": 16, "keypoints": None},
    "HSpacePasteBack": {"original": "face", "edited": "fitted", "reconstruction": "fitted"},
    "HSpaceDeltaEdit": {"code": "code"},
    "HSpacePadaAge": {"code": "code"},
    "HSpaceManipulateCode": {"code": "code"},
    "HSpaceInterpolateCodes": {
        "first": "code",
        "second": "other code",
        "first_noise": "noise",
        "second_noise": "noise",
    },
    "HSpaceMixCodeLevels": {"code": "code", "style": "other code"},
    "HSpaceTrainHeads": {"codes": "codes", "without": "other codes", "values": "", "append_to": None},
    "HSpaceTrainDeltaMapper": {"code": "codes", "image": "faces"},
    "HSpaceTrainPada": {"code": "codes", "image": "faces", "young": "face with brown hair", "model": None},
    "HSpaceEditState": {"directions": "moves", "how": "guidance"},
    "HSpaceInjectFeatures": {"model": "text model", "trajectory": "text trajectory", "source": "prompt"},
    "HSpaceFitImageLora": {"model": "text model", "image": "little face", "positive": "prompt", "rank": 1},
    "HSpaceNullTextOptimise": {
        "model": "text model",
        "trajectory": "text trajectory",
        "positive": "prompt",
        "negative": "prompt",
        "cfg": 2.0,
    },
    "HSpaceProximalCFG": {"model": "text model", "trajectory": "text trajectory"},
    "HSpacePromptToPrompt": {"model": "text model"},
    "HSpaceP2PLocalBlend": {"model": "text model", "words": "hair"},
    "HSpaceWordMask": {"model": "text model", "image": "little face", "words": "hair", "draws": 1, "against": ""},
    "HSpaceP2PBlendMask": {"model": "blended", "latent": "mixed"},
    "HSpaceConceptEditGuider": {"model": "text model", "negative": "prompt"},
    "HSpaceEditConcept": {"conditioning": "prompt", "clip": None, "words": ""},
    "HSpaceMorphFrames": {
        "model": "text model",
        "first": "text trajectory",
        "second": "text trajectory",
        "lora_first": None,
        "lora_second": None,
    },
    "HSpaceSampleEditFriendly": {"trajectory": "friendly"},
    "HSpaceRecolourEditFriendly": {"trajectory": "friendly"},
    "HSpaceSampleExactInversion": {"trajectory": "exact"},
    "HSpaceSplitPair": {"image": "two faces", "latent": "pair latent"},
    "HSpacePairConditioning": {"source_encoded": None, "targets_encoded": None},
    "HSpaceApplyRectifier": {"edit": "rectifier edit"},
    "HSpaceTrainRectifierEdit": {"sigma_start": 1.0},
    "HSpaceEditMetrics": {"source_prompt": "", "target_prompt": "a face"},
    "HSpaceSDEditSigmas": {"steps": 4},
    "HSpaceEditDial": {"source": "noise"},
    "HSpacePerceptualReschedule": {"frames": "two faces"},
    "HSpaceTransportDirections": {"directions": "directions"},
    "HSpaceRenderTrajectory": {"mask": None},
    "HSpaceSaveTrained": {"trained": "delta"},
    "HSpaceFitLatentSVD": {"steps": 1},
    "HSpaceTrainAsyrp": {"steps": 1},
    "HSpaceIntoDomain": {"steps": 1, "positive": None},
    "HSpaceInvertImage": {"positive": None, "negative": None},
    "HSpaceEditFriendlyInversion": {"positive": None, "negative": None},
    "HSpaceSelectDirections": {"label": "it"},
    "HSpaceSteer": {"sigma_end": 0.005},
}
_SOCKETS = {
    "*": "face",
    "MODEL": "model",
    "VAE": "vae",
    "CLIP": "clip",
    "CLIP_VISION": "vision",
    "IMAGE": "face",
    "MASK": "mask",
    "LATENT": "noise",
    "SIGMAS": "sigmas",
    "CONDITIONING": "prompt",
    "SAMPLER": "sampler",
    "LORA_MODEL": "lora",
    "HSPACE_TRAJECTORY": "trajectory",
    "HSPACE_DIRECTIONS": "directions",
    "HSPACE_BASIS": "basis",
    "HSPACE_EMBEDDER": "embedder",
    "HSPACE_DELTA": "delta",
    "HSPACE_RECTIFIER": "rectifier",
    "HSPACE_CONCEPTS": "concepts",
    "HSPACE_HEADS": "heads",
    "HSPACE_TOKENMAP": "tokens",
    "HSPACE_DELTAMAPPER": "mapper",
    "HSPACE_PADA": "pada",
    "HSPACE_PLACEMENT": "placement",
}
_DIALS = {"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"}


class Good:
    """Good values of a host.

    Args:
        executor: the host.
    """

    def __init__(self, executor):
        self.executor = executor
        self.folder = Path(import_module("folder_paths").models_dir) / "hspace"
        self.folder.mkdir(parents=True, exist_ok=True)
        for source, name in _FILES.items():
            shutil.copy(WEIGHTS / source, self.folder / name)
        state = load_file(WEIGHTS / "edits" / "asyrp" / "smile.safetensors")
        torch.save(
            {
                "0": {
                    k.removeprefix("delta.block."): v.float() for k, v in state.items() if k.startswith("delta.block.")
                }
            },
            self.folder / "asyrp.pth",
        )
        torch.save(_small_ddpm(executor), self.folder / "small.pth")

    @cached_property
    def values(self) -> dict[str, Any]:
        """By the names used above."""
        call = self._call
        model, vae, _ = call("HSpaceLoadFaceModel")
        text, clip, _ = call("HSpaceLoadFaceTextModel")
        coded, _, heads = call("HSpaceLoadFaceDiffAE", variant="DiffAE (one code)")
        (embedder,) = call("HSpaceLoadFaceEmbedder")
        picture, mask, *_ = call("HSpaceDemoFace", source="random", seed=1, count=1)
        faces = call("HSpaceDemoFace", source="random", seed=2, count=24)[0]
        (sigmas,) = call("BasicScheduler", model=model, scheduler="karras", steps=2, denoise=1.0)
        (prompt,) = call("CLIPTextEncode", clip=clip, text="a smiling person")
        pair, tokens, *_ = call(
            "HSpacePairConditioning", clip=clip, source="a person with red hair", targets="a person with blond hair"
        )
        (blended,) = call("HSpaceP2PLocalBlend", model=text, tokens=tokens, words="hair")
        invert = {"image": picture, "sigmas": sigmas, "method": "fixed point", "iterations": 1, **AS_IT_IS}
        trajectory, noise, *_ = call("HSpaceInvertImage", model=model, **invert)
        written, *_ = call(
            "HSpaceInvertImage", model=text, positive=prompt, **{**invert, "image": picture[:, 16:48, 16:48]}
        )
        exact, *_ = call(
            "HSpaceInvertImage",
            model=model,
            **{k: v for k, v in invert.items() if k != "iterations"} | {"method": "edict"},
        )
        friendly, *_ = call("HSpaceEditFriendlyInversion", model=model, image=picture, sigmas=sigmas)
        look = {"model": model, "trajectory": trajectory, "k": 1, "sigma": 1.0, "iterations": 1}
        small, *_ = call("HSpaceLoadPixelModel", checkpoint="small.pth")
        little, *_ = call("HSpaceInvertImage", model=small, **{**invert, "image": picture[:, 28:36, 28:36]})
        two, *_ = call("HSpaceInvertImage", model=model, **{**invert, "image": faces[:2]})
        directions, *_ = call("HSpaceDiscoverRegion", **look, mask=mask, mode="generalized", tau=0.01)
        moves, *_ = call("HSpaceBaselineDirections", **look, method="pullback (x)")
        basis, *_ = call(
            "HSpaceRegionBasis",
            model=model,
            trajectory=trajectory,
            mask=mask,
            max_k=1,
            max_rank=0,
            sigma=1.0,
            iterations=1,
        )
        (sampler,), (guider,) = (
            call("KSamplerSelect", sampler_name="euler"),
            call("BasicGuider", model=blended, conditioning=pair),
        )
        run = {"noise": call("DisableNoise")[0], "guider": guider, "sampler": sampler, "sigmas": sigmas}
        mixed, _ = call("SamplerCustomAdvanced", **run, latent_image={"samples": torch.zeros(2, 3, 64, 64)})
        (concepts,) = call("HSpaceEditConcept", conditioning=prompt, scale=5.0, threshold=0.9, reverse=False)
        fitted, _, placement = call("HSpaceFitPhoto", image=picture, framing="region", mask=mask, size=16)
        return {
            "model": model,
            "vae": vae,
            "fitted": fitted,
            "placement": placement,
            "text model": text,
            "clip": clip,
            "coded": coded,
            "heads": heads,
            "embedder": embedder,
            "face": picture,
            "mask": mask,
            "little face": picture[:, 16:48, 16:48],
            "faces": faces,
            "two faces": faces[:2],
            "sigmas": sigmas,
            "prompt": prompt,
            "pair": pair,
            "tokens": tokens,
            "small model": small,
            "small trajectory": little,
            "small mask": mask[:, ::8, ::8],
            "two states": two,
            "trajectory": trajectory,
            "text trajectory": written,
            "exact": exact,
            "friendly": friendly,
            "noise": noise,
            "pair latent": {"samples": noise["samples"].repeat(2, 1, 1, 1)},
            "directions": directions,
            "moves": moves,
            "basis": basis,
            **self._codes(coded, picture, faces),
            "concepts": concepts,
            **self._files(),
            "vision": _Vision(),
            "sampler": sampler,
            "blended": blended,
            "mixed": mixed,
        }

    def _codes(self, coded: Any, picture: torch.Tensor, faces: torch.Tensor) -> dict[str, Any]:
        """Codes of pictures, by an autoencoder."""
        pictures = {"code": picture, "codes": faces, "other codes": faces.flip(2), "other code": faces[:1]}
        return {name: self._call("HSpaceEncodeCode", model=coded, image=image)[0] for name, image in pictures.items()}

    def _files(self) -> dict[str, Any]:
        """What ships as a file."""
        call = self._call
        return {
            "delta": call("HSpaceLoadTrained", file="hspace/smile.safetensors")[0],
            "rectifier": call("HSpaceLoadRectifier", file="hspace/reconstruction.safetensors")[0],
            "rectifier edit": call("HSpaceLoadRectifier", file="hspace/glasses.safetensors")[0],
            "lora": call("HSpaceLoadFineTuned", file="hspace/glasses.safetensors")[0],
            "mapper": call("HSpaceLoadDeltaMapper", file="hspace/diffae.safetensors")[0],
            "pada": call("HSpaceLoadPada", file="hspace/diffae.safetensors")[0],
        }

    def _call(self, kind: str, **given: Any) -> tuple[Any, ...]:
        """A node, at its defaults where nothing is given."""
        node = self.executor.classes[kind]
        declared = node.define_schema().inputs if hasattr(node, "define_schema") else ()
        return self.executor.call(
            kind, **{i.id: _default(i) for i in declared if not i.optional and i.io_type in _DIALS} | given
        )

    def inputs(self, kind: str) -> dict[str, Any]:
        """Every input of a node, optional ones too, or fewer where one excludes another."""
        return {i.id: self.value(kind, i) for i in self.executor.classes[kind].define_schema().inputs}

    def value(self, kind: str, declared) -> Any:
        """That of one input."""
        by_node = _BY_NODE.get(kind, {})
        if declared.id in by_node and not (
            isinstance(by_node[declared.id], str) and by_node[declared.id] in self.values
        ):
            return by_node[declared.id]
        if declared.id in by_node:
            return self.values[by_node[declared.id]]
        if declared.io_type in _SOCKETS:
            return self.values[_SOCKETS[declared.io_type]]
        if declared.id in _CHEAP and declared.io_type in ("INT", "FLOAT"):
            return _CHEAP[declared.id]
        return _default(declared)


def _default(declared) -> Any:
    if declared.default is None and declared.io_type == "COMBO":
        return (declared.options or ["none"])[0]
    return declared.default


class _Vision:
    """Something with the interface of a CLIP_VISION, of another size."""

    model = torch.nn.Linear(1, 1)
    config = {"hidden_size": 8, "projection_dim": 8}  # noqa: RUF012
    model_type = "clip_vision_model"

    def encode_image(self, image):
        """Nobody gets here."""
        raise NotImplementedError


def _small_ddpm(executor) -> dict[str, torch.Tensor]:
    """The state of a DDPM network of few channels with random weights."""
    ddpm = executor.module("core.networks.ddpm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ddpm.DDPMUNet(ddpm.DDPMConfig(3, 3, (32,), 1, (False,))).state_dict()
