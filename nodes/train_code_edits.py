"""Train: delta mappers (DeltaEdit) and PADA, on the codes and embeddings of pictures alone."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from ..core.codes import CodeSpace
from ..core.edit.code_edit_io import TrainedCodeEdit, code_edit_to_payload, save_code_edit
from ..core.networks.delta_mapper import DeltaMapper as Mapper
from ..core.networks.pada import PADA
from ..core.train.code_readings import measured
from ..core.train.deltaedit import train_delta_mapper
from ..core.train.fit import Fit
from ..core.train.pada import Weights, ages_between, train_pada
from .host import paths
from .host.api import DeltaMapper, Embedder, Pada, io, ui
from .host.codes import codes_from_conditioning
from .host.embeddings import embedded
from .host.fingerprint import model_fingerprint
from .host.one_step import image_losses
from .host.training import Run

_CODE = "Encode Semantic Code of the training pictures: thousands are best, a few hundred do for a try."
_IMAGE = "The same pictures in the same order."
_EMBEDDER = "From Load Face Embedder, or CLIP Embedder for photographs. Editing needs the same one."
_SEED = "Same seed, same weights."


def _seen(code: list, embedder, image: Tensor) -> tuple[Tensor, CodeSpace, Tensor]:
    """Codes and embeddings that autograd may save, and the space of the codes."""
    values, space = codes_from_conditioning(code)
    if len(values) != len(image):
        raise ValueError(f"code holds {len(values)} pictures, image {len(image)}; connect the same pictures to both")
    found = embedded(embedder, image)
    with torch.inference_mode(False):
        return values.clone(), space, found.clone()


class _Training(Run):
    """A run on codes, of which the best state is kept if it breaks off."""

    def __init__(self, label: str, kind: str, codes: Tensor, space: CodeSpace, embeddings: Tensor, embedder, settings: dict):
        facts = {"codes": space.fingerprint, "space": embedder.space, "kind": kind, **settings}
        super().__init__(None, label, torch.cat([codes.flatten(1), embeddings], 1), facts)
        self._kind, self._told = kind, (codes, space, embedder.space)

    def begin(self, fit: Fit) -> None:
        """For the ``begin`` of a core loop."""
        super().begin(fit)
        self.keep = self._keep

    def _keep(self, best: dict[str, Tensor]) -> Path:
        assert self.fit is not None  # noqa: S101 (a run that is kept has begun)
        codes, space, embedder = self._told
        net: Mapper | PADA = self.fit.module  # pyright: ignore[reportAssignmentType]
        net.load_state_dict(best)
        return save_code_edit(self.kept(self._kind), TrainedCodeEdit(net, measured(codes, space), embedder, self.label))


class HSpaceTrainDeltaMapper(io.ComfyNode):
    """DeltaEdit's mapper."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrainDeltaMapper",
            display_name="Train Delta Mapper",
            category="HSpace/train",
            description="Learns, from pairs of pictures and without a word, how the code changes when the embedding does (DeltaEdit). Delta Edit then takes any text. No gradient runs through model or embedder: minutes on a CPU. A cancelled run goes on when it is queued again.",
            search_aliases=["deltaedit", "deltaspace", "text-free training"],
            inputs=[
                io.Conditioning.Input("code", tooltip=_CODE),
                io.Image.Input("image", tooltip=_IMAGE),
                Embedder.Input("embedder", tooltip=_EMBEDDER),
                io.Int.Input("steps", default=3000, min=1, max=1_000_000, tooltip="Of the optimiser."),
                io.Int.Input("batch", default=128, min=1, max=4096, tooltip="Pairs at a time."),
                io.Float.Input("lr", default=0.001, min=1e-7, max=1.0, step=1e-4, round=1e-7, tooltip="Learning rate: 1e-3 for the face models, 2e-4 for codes of 512."),
                io.Int.Input("width", default=256, min=8, max=4096, advanced=True, optional=True, tooltip="Of hidden layers: 512 for codes of 512."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip=_SEED),
            ],
            outputs=[
                DeltaMapper.Output(display_name="mapper"),
                io.Image.Output(display_name="loss"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, code, image, embedder, steps, batch, lr, width=256, seed=0) -> io.NodeOutput:
        """Train."""
        codes, space, embeddings = _seen(code, embedder, image)
        options = {"steps": steps, "batch": batch, "lr": lr, "width": width, "seed": seed}
        with _Training("delta mapper", paths.MAPPER, codes, space, embeddings, embedder, options) as run, torch.inference_mode(False):
            found = train_delta_mapper(
                codes, space, embeddings, embedder.space, label=run.label, callback=run.step, begin=run.begin, **options
            )  # fmt: skip
        curve, text = run.summary(f"; {len(codes)} pictures")
        return io.NodeOutput(code_edit_to_payload(found), curve, text, ui=ui.PreviewImage(curve, cls=cls))


class HSpaceTrainPada(io.ComfyNode):
    """PADA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Schema."""
        return io.Schema(
            node_id="HSpaceTrainPada",
            display_name="Train PADA",
            category="HSpace/train",
            description="Learns to age codes in many ways, guided by texts and pictures (PADA). Judged in code space: how old a picture is and what else it shows are read off the code, as the embedder tells them apart by the two lists of texts. Minutes on a CPU. With a model connected, pictures are judged too. A cancelled run goes on when it is queued again.",
            search_aliases=["pada", "aging", "ageing", "diverse"],
            inputs=[
                io.Conditioning.Input("code", tooltip=_CODE),
                io.Image.Input("image", tooltip=f"{_IMAGE} Of all ages; nobody has to be there twice."),
                Embedder.Input("embedder", tooltip=_EMBEDDER),
                io.String.Input("young", default="face with brown hair\nface with black hair\nface with blond hair\nface with red hair", multiline=True, tooltip="Texts of young pictures, one a line. Photographs: 'a photo of a child's face', ..."),
                io.String.Input("old", default="face with grey hair", multiline=True, tooltip="Texts of old pictures, one a line. What lies between both lists counts as age."),
                io.Int.Input("steps", default=3000, min=1, max=1_000_000, tooltip="Of the optimiser."),
                io.Int.Input("batch", default=128, min=2, max=4096, tooltip="Codes at a time."),
                io.Float.Input("lr", default=0.001, min=1e-7, max=1.0, step=1e-4, round=1e-7, tooltip="Learning rate: 1e-3 for the face models, 1e-4 for codes of 512."),
                io.Float.Input("identity", default=Weights.identity, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Hold on to what else the picture shows."),
                io.Float.Input("diversity", default=Weights.diversity, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Push variants apart."),
                io.Model.Input("model", optional=True, tooltip="The autoencoder of the codes, to also judge the pictures that it predicts in one step. Slower; its weights stay as they are."),
                io.Float.Input("image_weight", default=Weights.image, min=0.0, max=100.0, step=0.1, advanced=True, optional=True, tooltip="Of that judgement, if a model is connected. 0: code space only, bit for bit."),
                io.Int.Input("width", default=192, min=8, max=4096, advanced=True, optional=True, tooltip="Of hidden layers: 512 for codes of 512."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, optional=True, control_after_generate=False, tooltip=_SEED),
            ],
            outputs=[
                Pada.Output(display_name="pada"),
                io.Image.Output(display_name="loss"),
                io.String.Output(display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, code, image, embedder, young, old, steps, batch, lr, identity=Weights.identity, diversity=Weights.diversity, model=None,
        image_weight=Weights.image, width=192, seed=0,
    ) -> io.NodeOutput:  # fmt: skip
        """Train."""
        lists = [[line.strip() for line in text.splitlines() if line.strip()] for text in (young, old)]
        if not all(lists):
            raise ValueError("young and old need at least one text each, one a line")
        codes, space, embeddings = _seen(code, embedder, image)
        options = {"steps": steps, "batch": batch, "lr": lr, "width": width, "seed": seed}
        facts = {**options, "identity": identity, "diversity": diversity, "young": lists[0], "old": lists[1]}
        judged = model is not None and image_weight > 0
        if judged:
            facts |= {"model": model_fingerprint(model), "image_weight": image_weight}
        with (
            _Training("PADA", paths.PADA, codes, space, embeddings, embedder, facts) as run,
            image_losses(model, embedder, space, image) if judged else nullcontext((None, 0)) as (images, need),
            torch.inference_mode(False),
        ):
            if model is not None:
                run.check_memory(need, model.load_device)
            ages, others = ages_between(embedder, embeddings, *lists)
            texts = [(text, float(level)) for level, part in enumerate(lists) for text in part]
            found = train_pada(
                codes, space, embeddings, embedder, ages, others, texts,
                weights=Weights(identity=identity, diversity=diversity, image=image_weight), images=images,
                label=f"from {lists[0][0]} to {lists[1][0]}"[:300], callback=run.step, begin=run.begin, **options,
            )  # fmt: skip
        curve, text = run.summary(f"; {len(codes)} pictures")
        return io.NodeOutput(code_edit_to_payload(found), curve, text, ui=ui.PreviewImage(curve, cls=cls))


NODES = [HSpaceTrainDeltaMapper, HSpaceTrainPada]
