"""Train: attribute heads on semantic codes, from pictures with and without something, or with numbers."""

import torch

from ...core.codes import CodeSpace
from ...core.files.heads import heads_from_payload, heads_to_payload
from ...core.train.heads import METHODS, Attribute, is_binary, parse_labels
from ..host.api import Heads, Node, io, ui
from ..host.model.codes import codes_from_conditioning
from ..unused import only_with, refuse_unused


class HSpaceTrainHeads(Node):
    """A direction from examples."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceTrainHeads",
            display_name="Train Attribute Heads",
            category="HSpace/train",
            description="Makes an attribute that codes can be moved along, from pictures with it and pictures without it. Encode each group as a batch. One batch and a number for each picture will do too. It takes no time.",
            search_aliases=["diffae classifier", "linear probe", "hyperplane", "lda", "attribute"],
            inputs=[
                io.Conditioning.Input(
                    "codes",
                    tooltip="The codes of pictures with the attribute, from Encode Semantic Code. Take 20 or more; hundreds are better.",
                ),
                io.Conditioning.Input(
                    "without",
                    optional=True,
                    tooltip="The codes of pictures without it. If it is not connected, write 'values'.",
                ),
                io.String.Input("name", default="my attribute", tooltip="The name that Manipulate Code calls it by."),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    tooltip="ridge-lda moves most at equal length. mean is the difference of means, for few pictures. logistic is the released code's; it classifies best and moves least.",
                ),
                only_with(
                    io.Float.Input(
                        "ridge",
                        default=0.1,
                        min=0.0,
                        max=100.0,
                        step=0.01,
                        advanced=True,
                        optional=True,
                        tooltip="Higher is smoother. Raise it with few pictures.",
                    ),
                    method=[name for name in METHODS if name != "mean"],
                ),
                io.String.Input(
                    "values",
                    default="",
                    multiline=True,
                    advanced=True,
                    optional=True,
                    tooltip="A number for each picture of 'codes', separated by commas or blanks, for attributes with a range (age, pose). 0 and 1 alone mean without and with.",
                ),
                Heads.Input(
                    "append_to",
                    optional=True,
                    tooltip="Attributes of the same model that this one is added to. One of the same name is replaced.",
                ),
            ],
            outputs=[
                Heads.Output(display_name="attributes"),
                io.String.Output(
                    display_name="report",
                    tooltip="The report says how well it tells apart pictures that it was not fitted to.",
                ),
            ],
        )

    @classmethod
    def execute(cls, codes, name, method, without=None, ridge=0.1, values="", append_to=None) -> io.NodeOutput:
        given, space = codes_from_conditioning(codes, "codes")
        before = heads_from_payload(append_to) if append_to else None
        if (without is None) == (not values.strip()):
            raise ValueError(
                "connect 'without', the codes of pictures that lack the attribute, or write 'values', one of the two"
            )
        if without is not None:
            other = _codes_without(without, space)
            labels = torch.cat([torch.ones(len(given)), torch.zeros(len(other))])
            given = torch.cat([given, other])
        else:
            labels = parse_labels(values, len(given))
        if not is_binary(labels):
            refuse_unused(
                cls,
                "tells two kinds of pictures apart, and 'values' are of a range, which least squares fits",
                method=method,
            )
        elif method == "mean":
            refuse_unused(cls, "has no part in method mean", ridge=ridge)
        heads, text = Attribute(name, method, ridge).learn(given, labels, space, before)
        return io.NodeOutput(heads_to_payload(heads), text, ui=ui.PreviewText(text))


def _codes_without(without: list, space: CodeSpace) -> torch.Tensor:
    """Codes of the pictures that lack an attribute, in the space of the others."""
    codes, other = codes_from_conditioning(without, "without")
    if (other.shape, other.fingerprint) != (space.shape, space.fingerprint):
        raise ValueError(
            f"'without' holds codes of another model ({other.fingerprint}) than 'codes' ({space.fingerprint})"
        )
    return codes


NODES = [HSpaceTrainHeads]
