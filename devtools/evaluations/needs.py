"""Which formula says what a node needs of the network."""

from __future__ import annotations

from collections.abc import Callable

from . import dial_needs, look_needs, sampler_needs, train_needs
from .need import Need, Needs
from .runs import Ran


def need_of(needs: Needs, ran: Ran) -> Need | None:
    """What a node needs; None where no formula is known for it."""
    formula = FORMULAS.get(ran.kind)
    return None if formula is None else formula(needs, ran)


FORMULAS: dict[str, Callable[[Needs, Ran], Need]] = {
    "HSpaceInvertImage": look_needs.invert,
    "HSpaceEditFriendlyInversion": look_needs.invert_edit_friendly,
    "HSpaceRenderTrajectory": look_needs.render,
    "HSpaceDirectionAtlas": look_needs.atlas,
    "HSpaceDials": dial_needs.dials,
    "HSpaceDiscoverRegion": look_needs.look,
    "HSpaceRegionBasis": look_needs.look,
    "HSpaceTrackDirections": look_needs.look,
    "HSpaceGlobalDirections": look_needs.look,
    "HSpaceBaselineDirections": look_needs.baseline,
    "HSpaceMeanDifference": look_needs.mean_difference,
    "HSpaceMeanTrained": look_needs.mean_trained,
    "HSpaceIntoDomain": look_needs.into_domain,
    "HSpaceEncodeCode": look_needs.encode,
    "HSpaceEditState": look_needs.edit_state,
    "HSpaceNullTextOptimise": look_needs.null_text,
    "HSpaceMorphFrames": look_needs.morph,
    "HSpaceAsyrpLevels": look_needs.levels,
    "HSpaceTrainAsyrp": train_needs.train_asyrp,
    "HSpaceTrainDiffusionCLIP": train_needs.train_diffusionclip,
    "HSpaceTrainRectifier": train_needs.train_rectifier,
    "HSpaceTrainRectifierEdit": train_needs.train_rectifier_edit,
    "HSpaceFitImageLora": train_needs.fit_lora,
    "KSampler": sampler_needs.ksampler,
    "SamplerCustomAdvanced": sampler_needs.sampler,
}
