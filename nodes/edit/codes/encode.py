"""Edit: a picture to its semantic code (DiffAE, HDAE)."""

from ...dials import fit_input
from ...host.api import Node, io, ui
from ...host.model.coded_model import check_coded, encode_pictures
from ...host.model.codes import codes_to_conditioning
from ...host.model.images import pixels
from ...host.model.size import CROP, fit_to_model


class HSpaceEncodeCode(Node):
    """Encodes a picture as a semantic code."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceEncodeCode",
            display_name="Encode Semantic Code",
            category="HSpace/edit/codes",
            description="Turns a picture into the code that a diffusion autoencoder sees in it. The code is a CONDITIONING for positive and negative of a sampler. With the noise latent of Invert Image (code to 'positive' there) sampling returns the picture itself. With fresh noise it draws another picture of the same meaning.",
            search_aliases=["diffae encode", "semantic encoder", "hdae", "z_sem"],
            inputs=[
                io.Model.Input("model", tooltip="The model comes from Load Face DiffAE or Load DiffAE."),
                io.Image.Input(
                    "image",
                    tooltip="The picture, cropped, aligned and scaled as the model's training pictures are. A batch gives a batch of codes.",
                ),
                fit_input(),
            ],
            outputs=[
                io.Conditioning.Output(display_name="code"),
                io.String.Output(
                    display_name="report",
                    tooltip="The report says whether the picture is like those that the model was trained on.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, image, fit=CROP) -> io.NodeOutput:
        net = check_coded(model)
        image, _ = fit_to_model(model, image, fit)
        code = encode_pictures(model, pixels(model, image))
        text = f"{len(code)} code{'s' if len(code) > 1 else ''} of {' x '.join(map(str, net.space.shape))}"
        warnings = []
        height, width = image.shape[1:3]
        if (height, width) != (net.image_size, net.image_size):
            warnings.append(
                f"the picture is {width}x{height}, the model was trained on {net.image_size}x{net.image_size}: scale it first"
            )
        if net.space.mean is not None:
            far = net.space.unlike(code)
            text += f"; distance from its training pictures {', '.join(f'{v:.2f}' for v in far[:8].tolist())} (1: at their edge)"
            if float(far.max()) > 1:
                warnings.append(
                    "the picture is unlike the training pictures: crop and align it as they are (FFHQ: eyes level, face filling the frame)"
                )
        text += "".join(f"\nWarning: {w}; edits will be weak or wrong" for w in warnings)
        return io.NodeOutput(codes_to_conditioning(code, net.space), text, ui=ui.PreviewText(text))


NODES = [HSpaceEncodeCode]
