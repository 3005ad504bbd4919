"""Measure: a MODEL at first contact, before anything is done with it."""

from __future__ import annotations

from dataclasses import replace

from ...core.discover.check_lines import OWN_CACHE, report_of
from ...core.discover.look import FULL, QUICK, Looks, calls_of, look_at
from ...core.measure.image import psnr
from ...core.measure.pair import crop_alike
from ..dials import prompts_given, vae_input
from ..host.api import Node, io, ui
from ..host.model.coded_model import CodedUNet, encode_pictures
from ..host.model.codes import codes_to_conditioning
from ..host.model.first_look import parts_of, versions
from ..host.model.images import check_pictures, decode, encode, from_image, pixels
from ..host.model.pixel_model import PixelUNet
from ..host.model.prompts import Prompts
from ..host.model.run import with_denoiser
from ..host.model.size import CROP, fit_to_model
from ..host.model.world import keep_world, known_world
from ..host.progress import reporter
from ..looking import default_sigma
from ..unused import refuse_unused


class HSpaceCheckModel(Node):
    """Says what works with a MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceCheckModel",
            display_name="Check Model",
            category="HSpace/measure",
            description=(
                "Looks at a checkpoint before you work with it: what it is, how well pictures come back, where it can be cut, "
                "what discovery takes on this card, and which nodes of this pack work with it. The first line says what to do next."
            ),
            search_aliases=["compatible", "checkpoint info", "model info", "diagnose", "bug report", "test model"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="Any MODEL, with whatever other nodes have put on it."),
                io.Combo.Input(
                    "depth",
                    options=[QUICK, FULL],
                    tooltip="quick takes about 80 calls of the network. full also inverts in 50 steps, cuts at every layer and lets the model draw 16 pictures, so that Invert Image can tell what is not of its world.",
                ),
                vae_input(),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The CLIP of the checkpoint, for models with prompts. The empty prompt is used.",
                ),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="A prompt in place of the empty one, or the semantic code of the picture for an autoencoder.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="One of your pictures. Without it the model draws one. Autoencoders need it.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="Markdown. It goes into Preview as Text."),
                io.Image.Output(display_name="card", tooltip="The report as a picture."),
            ],
        )

    @classmethod
    def execute(cls, model, depth, vae=None, clip=None, positive=None, image=None) -> io.NodeOutput:
        check_pictures(model)
        _refuse_idle(cls, model, clip, positive)
        parts = parts_of(model)
        note = _missing(model, parts, clip, positive, image)
        looks = Looks() if note else _measured(model, parts, depth, vae, clip, positive, image)
        sigma = default_sigma(model, max(parts.shape[-2:]))
        report = report_of(parts, looks, sigma, versions(), note)
        card = report.card()
        return io.NodeOutput(report.markdown(), card, ui=ui.PreviewImage(card, cls=cls))


def _refuse_idle(node: type[Node], model, clip, positive) -> None:
    """Refuse prompts that would not be asked."""
    net = model.model.diffusion_model
    if isinstance(net, PixelUNet):
        refuse_unused(node, "is for models with prompts, and this one draws without", clip=clip)
    elif positive is not None:
        refuse_unused(node, "makes the empty prompt, and 'positive' holds another", clip=clip)
    if positive is not None:
        prompts_given(node, model, positive, None, 1.0)


def _missing(model, parts, clip, positive, image) -> str:
    """What has to be connected before the network can be asked; empty if nothing."""
    net = model.model.diffusion_model
    if parts.cache and parts.cache != OWN_CACHE:
        return f"connect the MODEL from before {parts.cache}, which answers some calls from earlier ones"
    if isinstance(net, CodedUNet) and positive is None and image is None:
        return "connect a picture to 'image': this model draws from the semantic code of one"
    if not isinstance(net, PixelUNet) and clip is None and positive is None:
        return "connect the checkpoint's CLIP to 'clip', or a prompt to 'positive': this model takes prompts"
    return ""


def _measured(model, parts, depth: str, vae, clip, positive, image) -> Looks:
    x0 = picture = None
    if image is not None:
        picture, _ = fit_to_model(model, image[:1], CROP)
        x0 = encode(model, vae, picture)
        if isinstance(model.model.diffusion_model, CodedUNet) and positive is None:
            code = encode_pictures(model, pixels(model, picture))
            positive = codes_to_conditioning(code, model.model.diffusion_model.space)
    if positive is None and clip is not None:
        positive = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    if x0 is not None and parts.side is None:
        parts = replace(parts, shape=tuple(x0.shape[1:]))  # the best guess of what it works at
    prompts = Prompts.given(model, positive)
    shape = (1, *parts.shape) if x0 is None else x0.shape
    report = reporter(model, calls_of(depth), preview=False)
    known = known_world(model)

    def work(denoiser) -> Looks:
        device = model.load_device
        return look_at(denoiser, parts, x0, depth, reference=known, device=device, callback=report)

    gradients = bool(parts.layers) and parts.traits.differentiable
    looks = with_denoiser(model, shape, prompts, work, gradients=gradients)
    if known is None and looks.reference is not None:
        keep_world(parts.fingerprint, looks.reference)
    if vae is not None and parts.traits.latent and looks.picture is not None:
        shown = decode(model, vae, looks.picture) if picture is None else picture
        looks.autoencoder = _through(model, vae, shown)
    return looks


def _through(model, vae, image) -> float:
    """PSNR of an IMAGE that went through the VAE alone, in dB."""
    rebuilt = from_image(decode(model, vae, encode(model, vae, image)))
    original, _, _ = crop_alike(from_image(image), rebuilt, None, ("image", "its reconstruction"))
    return float(psnr(rebuilt, original).mean())


NODES = [HSpaceCheckModel]
