"""Inputs and outputs that the Train nodes share."""

from ...core.train.directional import PromptPair
from ...core.train.run import OPTIMISERS
from ..dials import TRAINED_SIGMA, count_input, rate_input, seed_input, sigma_input, weight_input
from ..host.api import Embedder, Node, Trajectory, io, ui
from ..host.training import NodeSession, networks_of

PICTURES = (
    "The training pictures, from Invert Image with the same MODEL. The papers take 100, and 16 do for the face world."
)
EPOCHS = "How often every picture is seen."
OPTIMISER = io.Combo.Input(
    "optimiser", options=list(OPTIMISERS), tooltip="adam is quick, and sgd is the released code's."
)


def pictures(note: str = ""):
    """Declare the training pictures; ``note`` joins what is said of them."""
    return Trajectory.Input("trajectory", tooltip=f"{PICTURES} {note}".strip())


def prompts(target: str = "smiling face") -> list:
    """Declare two prompts and their embedder."""
    embedder = "The embedder comes from Load Face Embedder, or from CLIP Embedder for photographs."
    return [
        Embedder.Input("embedder", tooltip=embedder),
        io.String.Input("source", default="face", tooltip="What the pictures show now."),
        io.String.Input("target", default=target, tooltip="What they are to show."),
    ]


def level(name: str, tooltip: str, *, advanced: bool = False) -> io.Float.Input:
    """Declare a noise level, of which 0 is automatic or off."""
    return sigma_input(name, 0.0, tooltip, most=TRAINED_SIGMA, advanced=advanced)


def steps(default: int) -> io.Int.Input:
    """Declare the steps of the optimiser."""
    return count_input("steps", default, "The number of optimiser steps.", most=1_000_000)


def batch(of: str, default: int = 4, least: int = 1, most: int = 64) -> io.Int.Input:
    """Declare how many are seen at a time; ``of`` names what."""
    return count_input("batch", default, f"The number of {of.lower()} at a time.", least=least, most=most)


def learning_rate(advice: str) -> io.Float.Input:
    """Declare the learning rate of most methods; ``advice`` says which for which network."""
    tooltip = f"The learning rate. Take {advice}."
    return rate_input(0.001, tooltip)


def losses(clip: float, l1: str = "The hold on the picture.") -> list[io.Float.Input]:
    """Declare the weights of the directional loss and of the change of the picture; ``l1`` says what the latter is."""
    return [
        weight_input("clip_weight", clip, "The pull towards the target."),
        weight_input("l1_weight", 1.0, l1),
    ]


def blur(default: float = 0.0) -> io.Float.Input:
    """Declare the blur of the pictures before they are embedded."""
    return io.Float.Input(
        "blur",
        default=default,
        min=0.0,
        max=0.2,
        step=0.005,
        round=0.001,
        advanced=True,
        optional=True,
        tooltip="The blur of the pictures before the embedder sees them, as a share of their side. Raise it if fine patterns appear. Lower it if small features such as a mouth smear.",
    )


def seed(tooltip: str = "The same seed gives the same weights (on a CPU).") -> io.Int.Input:
    """Declare the seed of a training."""
    return seed_input(tooltip, advanced=True)


def outputs(trained) -> list:
    """Declare what was trained, the curve of its loss, and a line for people."""
    return [trained, io.Image.Output(display_name="loss"), io.String.Output(display_name="report")]


def training_output(node: type[Node], payload, session: NodeSession, note: str) -> io.NodeOutput:
    """What a training node gives; ``note`` joins the report."""
    curve, text = session.summary(note)
    return io.NodeOutput(payload, curve, text, ui=ui.PreviewImage(curve, cls=node))


def checked_prompts(model, embedder, source: str, target: str) -> PromptPair:
    """Two prompts; refused before the MODEL is loaded if there is no direction between them.

    Raises:
        ValueError: they are empty, too long, or mean the same.
    """
    networks_of(embedder, model.load_device)
    prompts = PromptPair(embedder, source, target)
    prompts.direction()
    return prompts


def prompt_facts(prompts: PromptPair) -> dict[str, str]:
    """What the result of a run depends on in two prompts."""
    return {"space": prompts.embedder.space, "source": prompts.source, "target": prompts.target}


CODE = io.Conditioning.Input(
    "code",
    tooltip="The codes of the training pictures, from Encode Semantic Code. Thousands are best, and a few hundred do for a try.",
)
SAME_PICTURES = "The same pictures in the same order."
CODE_EMBEDDER = Embedder.Input(
    "embedder",
    tooltip="The embedder comes from Load Face Embedder, or from CLIP Embedder for photographs. Editing needs the same one.",
)


def width(default: int) -> io.Int.Input:
    """Declare the width of the hidden layers of an edit of codes."""
    return count_input(
        "width", default, "The width of hidden layers. Take 512 for codes of 512.", least=8, most=1024, advanced=True
    )
