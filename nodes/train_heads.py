"""Train: attribute heads on semantic codes, from pictures with and without something, or with numbers."""

import torch

from ..core.edit.heads import Heads as Found
from ..core.edit.heads_io import heads_from_payload, heads_to_payload
from ..core.measure.auroc import auroc
from ..core.train.heads import METHODS, fit_heads, with_statistics
from .host.api import Heads, io, ui
from .host.codes import codes_from_conditioning

_LEAST, _FOLDS = 20, 5


class HSpaceTrainHeads(io.ComfyNode):
    """A direction from examples."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrainHeads",
            display_name="Train Attribute Heads",
            category="HSpace/train",
            description="An attribute that codes can be moved along, from pictures with it and pictures without it: encode each group as a batch. Takes no time. Or from one batch and a number for each picture.",
            search_aliases=["diffae classifier", "linear probe", "hyperplane", "lda", "attribute"],
            inputs=[
                io.Conditioning.Input("codes", tooltip="Encode Semantic Code of a batch of pictures with the attribute; 20 or more, better hundreds."),
                io.Conditioning.Input("without", optional=True, tooltip="The same of pictures without it. Not connected: write 'values'."),
                io.String.Input("name", default="my attribute", tooltip="What Manipulate Code calls it."),
                io.Combo.Input("method", options=list(METHODS), tooltip="ridge-lda: moves most at equal length. mean: difference of means, for few pictures. logistic: as released; best to recognise, weak to move."),
                io.Float.Input("ridge", default=0.1, min=0.0, max=100.0, step=0.01, advanced=True, optional=True, tooltip="Higher is smoother; raise it with few pictures."),
                io.String.Input("values", default="", multiline=True, advanced=True, optional=True, tooltip="A number for each picture of 'codes', separated by commas or blanks, for attributes with a range (age, pose); 0 and 1 alone are without and with."),
                Heads.Input("append_to", optional=True, tooltip="Attributes of the same model that these are added to; one of the same name is replaced."),
            ],
            outputs=[Heads.Output(display_name="attributes"), io.String.Output(display_name="report", tooltip="How well it tells pictures apart that it was not fitted to.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, codes, name, method, without=None, ridge=0.1, values="", append_to=None) -> io.NodeOutput:
        """Fit."""
        (given, space), before = codes_from_conditioning(codes), append_to and heads_from_payload(append_to)
        if (without is None) == (not values.strip()):
            raise ValueError("connect 'without', the codes of pictures that lack the attribute, or write 'values', one of the two")
        if without is not None:
            other, theirs = codes_from_conditioning(without)
            if (theirs.shape, theirs.fingerprint) != (space.shape, space.fingerprint):
                raise ValueError(f"'without' holds codes of another model ({theirs.fingerprint}) than 'codes' ({space.fingerprint})")
            labels = torch.cat([torch.ones(len(given)), torch.zeros(len(other))])
            given = torch.cat([given, other])
        else:
            labels = _numbers(values, len(given))
        two = bool(((labels == 0) | (labels == 1)).all())
        few = min(int((labels == v).sum()) for v in (0, 1)) if two else len(given)
        if few < _LEAST:
            raise ValueError(f"{few} pictures are too few to find an attribute; encode {_LEAST} or more of each kind as one batch")
        if before is not None:
            before.check_space(space)
            space = before.space
        elif space.mean is None:
            space = with_statistics(space, given)
        found = fit_heads(given, {name.strip(): labels}, space, method, ridge)
        text = f"{name}: {len(given)} pictures, {_judged(given, labels, space, method, ridge, two)}"
        return io.NodeOutput(heads_to_payload(_joined(before, found) if before else found), text, ui=ui.PreviewText(text))


def _numbers(text: str, count: int) -> torch.Tensor:
    try:
        found = [float(v) for v in text.replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(f"values must be numbers: {error}") from error
    if len(found) != count:
        raise ValueError(f"values must hold a number for each of the {count} pictures, got {len(found)}")
    return torch.tensor(found)


def _judged(codes, labels, space, method: str, ridge: float, two: bool) -> str:
    """Quality on each fifth of the pictures, fitted to the others."""
    scores, order = torch.empty(len(codes)), torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))
    for fold in range(_FOLDS):
        rest = torch.ones(len(codes), dtype=torch.bool)
        rest[order[fold::_FOLDS]] = False
        scores[~rest] = fit_heads(codes[rest], {"it": labels[rest]}, space, method, ridge).scores(codes[~rest])[:, 0]
    if two:
        return f"AUROC {auroc(scores, labels):.3f} on pictures left out (0.5 is chance; below 0.8 it will hardly move pictures)"
    return f"correlation {float(torch.corrcoef(torch.stack([scores, labels]))[0, 1]):.3f} on pictures left out"


def _joined(before: Found, new: Found) -> Found:
    rows = [i for i, n in enumerate(before.names) if n not in new]
    return Found(
        (*(before.names[i] for i in rows), *new.names), torch.cat([before.weight[rows], new.weight]), torch.cat([before.bias[rows], new.bias]),
        before.space, (*(before.kinds[i] for i in rows), *new.kinds),
    )  # fmt: skip


NODES = [HSpaceTrainHeads]
