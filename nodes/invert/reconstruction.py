"""What an inversion gives: the trajectory, and how well the picture comes back."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ...core.measure.domain import world_text
from ...core.measure.pair import reconstruction_sheet
from ...core.payload import trajectory_to_payload
from ...core.photo.whole import fit_text
from ...core.picture_facts import PictureFit
from ...core.trajectory import Trajectory, residual_text
from ..host.api import ExecutionBlocker, Node, io, ui
from ..host.api import Trajectory as TrajectorySocket
from ..host.model.images import decode
from ..host.model.prompts import Prompts
from ..host.model.traits import is_latent

SHOWN, RESIDUAL = "reconstruction", "residual only"

PREVIEW = io.Combo.Input(
    "preview",
    options=[SHOWN, RESIDUAL],
    advanced=True,
    optional=True,
    tooltip="reconstruction samples the picture back, shows it and measures the PSNR. residual only shows how exactly the steps were solved and saves these calls. Nodes that need the reconstruction or its PSNR then stop with an error.",
)
"""Whether an inversion is sampled back to be looked at."""


@dataclass(frozen=True)
class InvertedPicture:
    """A picture and what it was inverted with.

    Attributes:
        model: MODEL.
        vae: VAE, or None.
        image: IMAGE `[b h w c]`.
        x0: the clean state of it, `[b c h w]`.
        prompts: that the model was conditioned on.
        fit: how it was brought to the model's size, or None.
    """

    model: Any
    vae: Any
    image: Tensor
    x0: Tensor
    prompts: Prompts
    fit: PictureFit | None = None

    def best(self) -> Tensor:
        """Give the IMAGE that a perfect inversion ends in.

        Of a latent model it is what the autoencoder makes of the state, so that the figure is the inversion's own.
        """
        return decode(self.model, self.vae, self.x0) if is_latent(self.model) else self.image[..., :3].cpu()


def inversion_outputs(latent: str, tooltip: str, against: str = "") -> list[io.Output]:
    """Declare what :func:`inversion_output` gives.

    Args:
        latent: name of the LATENT.
        tooltip: of the LATENT.
        against: joins what is said of the PSNR.
    """
    psnr = f"The PSNR of the reconstruction against the image, in dB. {against}".strip()
    return [
        TrajectorySocket.Output(display_name="trajectory"),
        io.Latent.Output(display_name=latent, tooltip=tooltip),
        io.Image.Output(display_name="reconstruction"),
        io.Float.Output(display_name="psnr", tooltip=psnr),
    ]


def inversion_output(node: type[Node], source: InvertedPicture, trajectory: Trajectory, latent: dict) -> io.NodeOutput:
    """Give a trajectory, a LATENT, the reconstruction as IMAGE, and its mean PSNR in dB.

    Without a reconstruction these two block what is connected to them, and the node shows the residual.
    """
    trajectory = replace(trajectory, prompts=source.prompts.stored(), fit=source.fit)
    payload = trajectory_to_payload(trajectory.to("cpu"))
    notes = _notes(trajectory)
    if trajectory.reconstruction is None:
        nothing = ExecutionBlocker(f"the picture was not sampled back: set 'preview' of this inversion to {SHOWN}")
        return io.NodeOutput(
            payload, latent, nothing, nothing, ui=ui.PreviewText("\n".join([residual_text(trajectory), *notes]))
        )
    rebuilt = decode(source.model, source.vae, trajectory.rebuilt)
    original, shown = (picture.movedim(-1, 1) * 2 - 1 for picture in (source.best(), rebuilt))
    quality, sheet = reconstruction_sheet(original, shown, notes)
    return io.NodeOutput(payload, latent, rebuilt, quality, ui=ui.PreviewImage(sheet, cls=node))


def _notes(trajectory: Trajectory) -> list[str]:
    """What people should know of the pictures, for the node."""
    notes = []
    if trajectory.fit is not None:
        notes.append(f"the picture is {fit_text(trajectory.fit)}")
    if trajectory.world is not None and (text := world_text(trajectory.world)):
        notes.append(text)
    return notes
