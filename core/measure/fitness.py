"""Which of the pack's methods a model can be used with, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .check_report import Fitness


@dataclass(frozen=True)
class ModelTraits:
    """What decides what works with a model.

    Attributes:
        network: name of its class, for people.
        cut: it can be cut in two at a layer.
        unet: it is a U-Net that can be cut.
        flow: its states are those of rectified flow.
        latent: it works in an autoencoder's latents.
        attention: it is a U-Net of the host, whose attention over a prompt can be edited.
        coded: it draws from a semantic code.
        promptless: it draws without prompts.
        quantised: nothing can be trained through its weights.
        differentiable: derivatives can be taken through its weights.
    """

    network: str
    cut: bool = True
    unet: bool = True
    flow: bool = False
    latent: bool = False
    attention: bool = False
    coded: bool = False
    promptless: bool = False
    quantised: bool = False
    differentiable: bool = True


def fitness_of(traits: ModelTraits) -> list[Fitness]:
    """List the nodes by what they need, in the order of the stages."""
    return [_judged(nodes, reason(traits)) for nodes, reason in _NEEDS]


def _judged(nodes: str, reason: str) -> Fitness:
    return Fitness(nodes, not reason, reason)


def _none(traits: ModelTraits) -> str:
    return ""


def _cut(traits: ModelTraits) -> str:
    return (
        ""
        if traits.cut
        else f"it is not known where to cut a {traits.network}, and these nodes read and move what is inside"
    )


def _unet(traits: ModelTraits) -> str:
    return "" if traits.unet else f"they need the bottleneck of a U-Net, and a {traits.network} has none"


def _derivatives(traits: ModelTraits) -> str:
    closed = "its weights are quantised in a way that cannot be unpacked: load the fp16 or fp8 release"
    return _cut(traits) or ("" if traits.differentiable else closed)


def _not_flow(traits: ModelTraits) -> str:
    return "they draw noise as x0 + sigma n, which a flow model does not know" if traits.flow else ""


def _attention(traits: ModelTraits) -> str:
    if traits.attention:
        return ""
    return f"they edit the attention of a U-Net over a prompt, and a {traits.network} has none that ComfyUI lets edit"


def _prompted(traits: ModelTraits) -> str:
    return "they edit by prompts, and this model takes none" if traits.coded or traits.promptless else ""


def _null_text(traits: ModelTraits) -> str:
    return _attention(traits) or _not_flow(traits) or _derivatives(traits)


def _trained(traits: ModelTraits) -> str:
    quantised = "its weights are quantised, and nothing is trained through them" if traits.quantised else ""
    return _unet(traits) or quantised


def _pixels(traits: ModelTraits) -> str:
    if traits.coded:
        return "it draws from a semantic code: use Manipulate Semantic Code instead"
    pixels = "" if not traits.latent and not traits.attention else "they need a whole pixel network without prompts"
    return pixels or _trained(traits)


def _morph(traits: ModelTraits) -> str:
    return _attention(traits) or _trained(traits)


def _coded(traits: ModelTraits) -> str:
    return "" if traits.coded else "they need a diffusion autoencoder (Load DiffAE)"


_NEEDS: tuple[tuple[str, Callable[[ModelTraits], str]], ...] = (
    ("Invert Image, Resume Trajectory, Render Trajectory", _none),
    ("Discover Region Directions, Region Basis, Baseline Directions", _derivatives),
    ("Steer, Edit Image by Dials, Direction Atlas", _cut),
    ("Steer With Trained Edit, Apply Rectifier", _unet),
    ("Edit-Friendly Inversion, Concept Edit Guider (LEDITS++), Latent SVD", _not_flow),
    ("FlowEdit", _prompted),
    ("Prompt-to-Prompt, Local Blend, Inject Features", _attention),
    ("Null-Text Optimise", _null_text),
    ("Fit Image LoRA, Morph Frames", _morph),
    ("Train Asyrp, Train Rectifier", _trained),
    ("Train DiffusionCLIP", _pixels),
    ("Encode, Manipulate, Interpolate and Sample Semantic Codes", _coded),
)
