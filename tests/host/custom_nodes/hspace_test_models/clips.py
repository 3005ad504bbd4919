"""Both towers of CLIP at their size with random weights."""

from pathlib import Path

import comfy.clip_vision
import comfy.sd
import torch
from comfy_api.latest import io

from .networks import fill
from .pack import pack_module

_COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class TestClip(io.ComfyNode):
    """Both towers of CLIP ViT-L/14 at their size with random weights; the text projection is fitted so that three
    colours agree."""

    @classmethod
    def define_schema(cls):
        cases = ["joint", "apart", "no projection", "other text tower", "other picture tower"]
        return io.Schema(
            node_id="HSpaceTestClip",
            category="tests",
            inputs=[io.Combo.Input("case", options=cases)],
            outputs=[io.Clip.Output(), io.ClipVision.Output()],
        )

    @classmethod
    def execute(cls, case):
        if case == "other text tower":
            return io.NodeOutput(cls.text(22, 4096, 1024), cls.vision())
        clip = cls.text()
        vision = cls.vision(
            "clip_vision_config_h.json" if case == "other picture tower" else "clip_vision_config_vitl.json"
        )
        projection = clip.cond_stage_model.clip_l.transformer.text_projection
        if case == "no projection":
            projection.weight.data.copy_(torch.eye(768))
        elif case == "joint":
            embedder = pack_module("nodes.host.model.clip").HostEmbedder
            pictures = torch.tensor(list(_COLOURS.values()))[:, :, None, None].expand(-1, -1, 224, 224) * 2 - 1
            embeddings = embedder.embed_image(_Towers(vision), pictures).cpu()
            clip.cond_stage_model.clip_l.set_clip_options({"projected_pooled": False})
            said = [
                clip.cond_stage_model.clip_l.encode_token_weights(clip.tokenize(f"a plain {c} picture")["l"])[1]
                for c in _COLOURS
            ]
            clip.cond_stage_model.clip_l.reset_clip_options()
            said = torch.cat(said).float().cpu()
            projection.weight.data.copy_((torch.linalg.pinv(said - said.mean(0)) @ (embeddings - embeddings.mean(0))).T)
        return io.NodeOutput(clip, vision)

    @classmethod
    def text(cls, layer=1, wide=3072, narrow=768):
        one = {
            f"text_model.encoder.layers.{layer}.mlp.fc1.weight": torch.zeros(wide, narrow)
        }  # the host knows the tower by it
        clip = comfy.sd.load_text_encoder_state_dicts([one])
        fill(clip.cond_stage_model, 1)
        return clip

    @classmethod
    def vision(cls, config="clip_vision_config_vitl.json"):
        tower = comfy.clip_vision.ClipVisionModel(str(Path(comfy.clip_vision.__file__).with_name(config)))
        fill(tower.model, 2)
        return tower


class _Towers:  # what embed_image asks of an embedder
    def __init__(self, vision):
        self.vision, self.network = vision, vision.model
