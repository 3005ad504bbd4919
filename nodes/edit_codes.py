"""Edit: semantic codes of diffusion autoencoders (DiffAE, HDAE): encoded, moved, mixed, interpolated and drawn anew."""

import torch

from ..core.codes import CodeSpace
from ..core.edit.codes import direction, interpolate, level_mask, manipulate, mix
from ..core.edit.heads_io import heads_from_payload
from ..core.edit.interpolate import alphas_text, even_alphas, parse_alphas, slerp
from ..core.edit.sample_codes import sample_codes
from ..core.schedule import snap_steps, stride_steps
from .host.api import Heads, io, ui
from .host.coded_model import check_coded, encode_pictures
from .host.codes import codes_from_conditioning, codes_to_conditioning
from .host.images import pixels
from .host.progress import reporter

CODE = "From Encode Semantic Code, or any node after it."


def parse_levels(text: str) -> list[int] | None:
    """Levels written as '0, 2'; None for an empty text.

    Raises:
        ValueError: anything else.
    """
    try:
        return [int(part) for part in text.split(",")] if text.strip() else None
    except ValueError as error:
        raise ValueError(f"levels are numbers separated by commas, such as '0, 1'; got {text!r:.60}") from error


def check_same(one: CodeSpace, two: CodeSpace) -> None:
    """Refuse codes of two models.

    Raises:
        ValueError: they are.
    """
    if (one.shape, one.fingerprint) != (two.shape, two.fingerprint):
        raise ValueError(f"the codes are of two models ({one.fingerprint} and {two.fingerprint}); encode both pictures with the same MODEL")


class HSpaceEncodeCode(io.ComfyNode):
    """Picture to code."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceEncodeCode",
            display_name="Encode Semantic Code",
            category="HSpace/edit",
            description="What a diffusion autoencoder sees in a picture: a code that goes into positive and negative of a sampler as CONDITIONING. With the noise latent of Invert Image (code to 'positive' there) sampling returns the picture itself; with fresh noise, another picture of the same meaning.",
            search_aliases=["diffae encode", "semantic encoder", "hdae", "z_sem"],
            inputs=[
                io.Model.Input("model", tooltip="Load Face DiffAE or Load DiffAE."),
                io.Image.Input("image", tooltip="Cropped and aligned as the model's training pictures, in their size. A batch gives a batch of codes."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="code"),
                io.String.Output(display_name="report", tooltip="Whether the picture is like those that the model was trained on."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, image) -> io.NodeOutput:
        """Encode."""
        net = check_coded(model)
        code = encode_pictures(model, pixels(model, image))
        text = f"{len(code)} code{'s' if len(code) > 1 else ''} of {' x '.join(map(str, net.space.shape))}"
        warnings = []
        height, width = image.shape[1:3]
        if (height, width) != (net.image_size, net.image_size):
            warnings.append(f"the picture is {width}x{height}, the model was trained on {net.image_size}x{net.image_size}: scale it first")
        if net.space.mean is not None:
            far = net.space.unlike(code)
            text += f"; distance from its training pictures {', '.join(f'{v:.2f}' for v in far[:8].tolist())} (1: at their edge)"
            if float(far.max()) > 1:
                warnings.append(
                    "the picture is unlike the training pictures: crop and align it as they are (FFHQ: eyes level, face filling the frame)"
                )
        text += "".join(f"\nWarning: {w}; edits will be weak or wrong" for w in warnings)
        return io.NodeOutput(codes_to_conditioning(code, net.space), text, ui=ui.PreviewText(text))


class HSpaceManipulateCode(io.ComfyNode):
    """Along an attribute."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceManipulateCode",
            display_name="Manipulate Code",
            category="HSpace/edit",
            description="Moves a code along an attribute. Sample with the noise latent of Invert Image and the moved code: the same face, with the attribute. Chain several for several attributes.",
            search_aliases=["diffae manipulate", "attribute edit", "hdae truncated", "top-k"],
            inputs=[
                io.Conditioning.Input("code", tooltip=CODE),
                Heads.Input("attributes", tooltip="Load Face DiffAE, Load Attribute Heads or Train Attribute Heads."),
                io.String.Input("attribute", default="glasses", tooltip="Name of one; a wrong name shows them all."),
                io.Float.Input("strength", default=0.3, min=-3.0, max=3.0, step=0.05, tooltip="How far: 0.2 to 0.5 as a rule, negative the other way; artefacts beyond. 0: the code itself."),
                io.Float.Input("top_k", default=100.0, min=0.1, max=100.0, step=0.5, tooltip="Only the most important coordinates move, in percent: fewer leave more of the rest alone (HDAE: 10). The strength is kept."),
                io.String.Input("orthogonal_to", default="", advanced=True, optional=True, tooltip="Attributes to leave alone, separated by commas; 'all' for all others. What the direction has in common with them is taken out."),
                io.String.Input("levels", default="", advanced=True, optional=True, tooltip="HDAE: move these levels only, such as '0, 1' (0 is the finest). Empty: all."),
                io.Boolean.Input("per_level", default=False, advanced=True, optional=True, tooltip="HDAE: take the top_k of every level by itself instead of over all."),
                io.Float.Input("limit", default=6.0, min=0.5, max=100.0, step=0.5, advanced=True, optional=True, tooltip="No coordinate moves by more than this many standard deviations."),
            ],
            outputs=[io.Conditioning.Output(display_name="code"), io.String.Output(display_name="report", tooltip="Scores of the attribute before and after.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, code, attributes, attribute, strength, top_k, orthogonal_to="", levels="", per_level=False, limit=6.0
    ) -> io.NodeOutput:
        """Move it."""
        (values, space), heads = codes_from_conditioning(code), heads_from_payload(attributes)
        heads.check_space(space)
        held = [n.strip() for n in orthogonal_to.split(",") if n.strip()]
        number = heads.index(attribute)
        if held == ["all"]:
            held = [n for n in heads.names if n != heads.names[number]]
        chosen = parse_levels(levels)
        unit = direction(heads, attribute, keep=top_k / 100, per_level=per_level, levels=chosen, against=held)
        moved = manipulate(values, heads.space, unit, strength, cap=limit)
        before, after = (heads.scores(v)[:, number].tolist() for v in (values, moved))
        text = f"{heads.names[number]}: " + ", ".join(f"{a:+.2f} > {b:+.2f}" for a, b in zip(before[:8], after[:8], strict=True))
        return io.NodeOutput(codes_to_conditioning(moved, heads.space), text, ui=ui.PreviewText(text))


class HSpaceInterpolateCodes(io.ComfyNode):
    """From one picture to another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceInterpolateCodes",
            display_name="Interpolate Codes",
            category="HSpace/edit",
            description="Frames from one picture to another: codes on a line, noises on an arc. Sample the batch with added noise off.",
            search_aliases=["diffae interpolate", "morph", "slerp", "semantic interpolation"],
            inputs=[
                io.Conditioning.Input("first", tooltip=CODE),
                io.Conditioning.Input("second", tooltip="Code of the other picture, of the same model."),
                io.Latent.Input("first_noise", tooltip="Noise latent of Invert Image for the first picture."),
                io.Latent.Input("second_noise", tooltip="That of the second. The same one twice: only the code moves."),
                io.Int.Input("frames", default=8, min=2, max=256, tooltip="Ends included."),
                io.String.Input("levels", default="", advanced=True, optional=True, tooltip="HDAE: only these levels of the code move, such as '2'; the others stay at the first picture's. Empty: all."),
                io.String.Input("alphas", default="", advanced=True, optional=True, tooltip="Places on the way instead of even ones, such as '0, 0.1, 0.5, 1', or the output of Perceptual Reschedule."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="codes", tooltip="For positive and negative of the sampler."),
                io.Latent.Output(display_name="noises", tooltip="For the sampler's latent, added noise off."),
                io.String.Output(display_name="alphas"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, first, second, first_noise, second_noise, frames, levels="", alphas="") -> io.NodeOutput:
        """Interpolate."""
        (a, space), (b, other) = codes_from_conditioning(first), codes_from_conditioning(second)
        check_same(space, other)
        one, two = first_noise["samples"], second_noise["samples"]
        for name, value in (("first", a), ("second", b), ("first_noise", one), ("second_noise", two)):
            if len(value) != 1:
                raise ValueError(f"{name} must be one picture's, got a batch of {len(value)}; interpolate pictures pair by pair")
        places, moving = (
            parse_alphas(alphas) if alphas.strip() else even_alphas(frames),
            level_mask(space, parse_levels(levels))[:, 0].float(),
        )
        codes = torch.cat([interpolate(a, b, moving * place if a.dim() == 3 else place) for place in places])
        noises = one.repeat(len(places), 1, 1, 1) if torch.equal(one, two) else slerp(one[0], two[0], places)
        return io.NodeOutput(codes_to_conditioning(codes, space), {"samples": noises}, alphas_text(places))


class HSpaceMixCodeLevels(io.ComfyNode):
    """Levels of two pictures in one code."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceMixCodeLevels",
            display_name="Mix Code Levels",
            category="HSpace/edit",
            description="A code with some levels of another picture's (HDAE style mixing). Sample it with the noise latent of the first picture.",
            search_aliases=["hdae style mixing", "style mix", "hierarchical"],
            inputs=[
                io.Conditioning.Input("code", tooltip=CODE),
                io.Conditioning.Input("style", tooltip="Code of the picture that gives the levels; one, or as many as 'code' has."),
                io.String.Input("levels", default="0", tooltip="Levels taken from 'style', separated by commas: 0 is the finest, the last the whole composition. Empty: none."),
            ],
            outputs=[io.Conditioning.Output(display_name="code")],
        )  # fmt: skip

    @classmethod
    def execute(cls, code, style, levels) -> io.NodeOutput:
        """Mix."""
        (a, space), (b, other) = codes_from_conditioning(code), codes_from_conditioning(style)
        check_same(space, other)
        if len(b) not in (1, len(a)):
            raise ValueError(f"style must be one code, or as many as 'code' has ({len(a)}), got {len(b)}")
        taken = parse_levels(levels) or ()
        return io.NodeOutput(codes_to_conditioning(mix(a, b.expand_as(a), space, taken), space))


class HSpaceSampleCodes(io.ComfyNode):
    """New codes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceSampleCodes",
            display_name="Sample Codes",
            category="HSpace/edit",
            description="New codes from the model's latent network: sampled with fresh noise they are pictures of nobody.",
            search_aliases=["diffae unconditional", "latent diffusion of codes", "random person"],
            inputs=[
                io.Model.Input("model", tooltip="Load Face DiffAE, or Load DiffAE with a checkpoint that has a latent network (..._latent)."),
                io.Int.Input("count", default=4, min=1, max=256, tooltip="How many."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False, tooltip="Which."),
                io.Int.Input("steps", default=200, min=2, max=1000, advanced=True, optional=True, tooltip="Of the latent network."),
            ],
            outputs=[io.Conditioning.Output(display_name="codes")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, count, seed, steps=200) -> io.NodeOutput:
        """Draw them."""
        net = check_coded(model)
        noise = torch.randn(count, net.space.size, generator=torch.Generator().manual_seed(seed))
        latent = None if net.latent is None else net.latent.to(noise.device)
        report = reporter(model, None, preview=False)
        return io.NodeOutput(codes_to_conditioning(sample_codes(latent, net.space, noise, steps, report), net.space))


class HSpaceDiffAESteps(io.ComfyNode):
    """The step grid of the DiffAE code."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceDiffAESteps",
            display_name="DiffAE Steps",
            category="HSpace/edit",
            description="Noise levels of the released DiffAE code: every s-th step of 1000. Not every number of steps exists there; the nearest that does is taken, and shown. 250 to invert, 100 to edit, 20 to preview.",
            search_aliases=["diffae scheduler", "sigmas", "ddim timesteps"],
            inputs=[
                io.Model.Input("model", tooltip="Load Face DiffAE, Load DiffAE, or another model of 1000 steps."),
                io.Int.Input("steps", default=100, min=2, max=1000, tooltip="Model calls. Invert Image and the sampler must get the same sigmas."),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas"), io.Int.Output(display_name="steps", tooltip="Those taken.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, steps) -> io.NodeOutput:
        """Make the grid."""
        levels = model.get_model_object("model_sampling").sigmas.float().cpu()
        taken = snap_steps(min(steps, len(levels)), len(levels))
        sigmas = torch.cat([levels[stride_steps(taken, len(levels))], torch.zeros(1)])
        text = f"{taken} steps" + ("" if taken == steps else f" ({steps} do not exist)")
        return io.NodeOutput(sigmas, taken, ui=ui.PreviewText(text))


NODES = [
    HSpaceEncodeCode, HSpaceManipulateCode, HSpaceInterpolateCodes, HSpaceMixCodeLevels, HSpaceSampleCodes, HSpaceDiffAESteps,
]  # fmt: skip
