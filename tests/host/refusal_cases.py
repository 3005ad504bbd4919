"""What is refused before the network is asked: by name, the call and the words of its message."""

import torch
from torch.nn import functional as F

from .worlds import (
    World,
    asyrp,
    atlas,
    difference,
    discover_everywhere,
    domain,
    edit_state,
    image_lora,
    inject,
    look,
    morph,
    null_text,
    rectifier_edit,
    region_basis,
    render,
    sample_concepts,
    steer,
    track,
)


def big(w: World) -> torch.Tensor:
    return F.interpolate(w.image.movedim(-1, 1), (512, 512)).movedim(1, -1)


def other_size(w: World):
    return w.inverted(image=F.interpolate(w.image.movedim(-1, 1), (64, 96)).movedim(1, -1))[0]


def wide(w: World) -> list:
    return [[torch.zeros(1, 77, 768), {}]]


EMPTY = torch.zeros(1, 64, 64)
PIXEL = torch.zeros(1, 64, 64)
"""A mask of three numbers."""
PIXEL[:, 40, 32] = 1
ASPECT = torch.ones(1, 64, 32)
CASES = {
    "invert, 512 pixels": (
        False,
        lambda w, m: w.inverted(m, image=big(w), fit="refuse"),
        ("'image' is 512x512", "64x64", "Fit Photo"),
    ),
    "noises, 512 pixels": (
        False,
        lambda w, m: w.noised(m, image=big(w), fit="refuse"),
        ("'image' is 512x512", "64x64", "Fit Photo"),
    ),
    "domain, 512 pixels": (
        False,
        lambda w, m: domain(w, m, image=big(w), fit="refuse"),
        ("'image' is 512x512", "Fit Photo"),
    ),
    "text model, 512 pixels": (
        True,
        lambda w, m: w.inverted(m, image=big(w), fit="any size"),
        ("'image' is 512x512", "64x64", "Upscale Image"),
    ),
    "lora, 512 pixels": (
        True,
        lambda w, m: image_lora(w, m, image=big(w), fit="refuse"),
        ("'image' is 512x512", "Fit Photo"),
    ),
    "discover, empty mask": (
        False,
        lambda w, m: look("HSpaceDiscoverRegion", w, m, mask=EMPTY),
        ("mask is empty", "Open in MaskEditor"),
    ),
    "discover, aspect": (
        False,
        lambda w, m: look("HSpaceDiscoverRegion", w, m, mask=ASPECT),
        ("aspect", "64x64", "32x64"),
    ),
    "discover, image_index": (
        False,
        lambda w, m: look("HSpaceDiscoverRegion", w, m, image_index=3),
        ("image_index", "0..0", "3"),
    ),
    "discover, layer": (
        False,
        lambda w, m: look("HSpaceDiscoverRegion", w, m, layer="up.11"),
        ("no layer 'up.11'", "middle"),
    ),
    "discover, k": (
        False,
        lambda w, m: look("HSpaceDiscoverRegion", w, m, mask=PIXEL, k=4),
        ("k must be at most 3", "got 4", "larger region"),
    ),
    "basis, max_k": (False, lambda w, m: region_basis(w, m, mask=PIXEL, max_k=4), ("k must be at most 3", "got 4")),
    "track, k": (False, lambda w, m: track(w, m, mask=PIXEL, k=4), ("k must be at most 3", "got 4")),
    "global, k": (
        False,
        lambda w, m: discover_everywhere(w, m, mask=[PIXEL], k=[4]),
        ("k must be at most 3", "got 4"),
    ),
    "loco, k": (
        False,
        lambda w, m: w.call(
            "HSpaceBaselineDirections",
            model=m,
            trajectory=w.path,
            mask=PIXEL,
            method="LOCO Edit (x)",
            k=4,
            rank=1,
            sigma=1.0,
        ),
        ("k must be at most 3", "got 4"),
    ),
    "basis, empty mask": (
        False,
        lambda w, m: region_basis(w, m, mask=EMPTY),
        ("mask is empty",),
    ),
    "loco, empty mask": (
        False,
        lambda w, m: w.call(
            "HSpaceBaselineDirections",
            model=m,
            trajectory=w.path,
            mask=EMPTY,
            method="LOCO Edit (x)",
            k=1,
            rank=1,
            sigma=1.0,
        ),
        ("mask is empty",),
    ),
    "PCA of one picture": (
        False,
        lambda w, m: w.call(
            "HSpaceBaselineDirections", model=m, trajectory=w.path, method="PCA of h", k=2, rank=5, sigma=1.0
        ),
        ("2 components need more than 2 pictures",),
    ),
    "track, empty mask": (False, lambda w, m: track(w, m, mask=EMPTY), ("mask is empty",)),
    "track, upwards": (False, lambda w, m: track(w, m, sigma_start=0.5), ("sigma_start must be at least sigma_end",)),
    "global, second mask empty": (
        False,
        lambda w, m: discover_everywhere(w, m, trajectory=[w.path, w.path], mask=[w.mask, EMPTY]),
        ("mask is empty",),
    ),
    "global, two sizes": (
        False,
        lambda w, m: discover_everywhere(w, m, trajectory=[w.path, other_size(w)], mask=None),
        ("one picture size",),
    ),
    "global, masks": (False, lambda w, m: discover_everywhere(w, m, mask=[w.mask, w.mask]), ("1 pictures, 2 masks",)),
    "difference, two sizes": (
        False,
        lambda w, m: difference(w, m, other_size(w)),
        ("one picture size", "[64, 64]", "[64, 96]"),
    ),
    "edit state, direction": (False, lambda w, m: edit_state(w, m, direction=9), ("directions between 1 and 1", "9")),
    "edit state, directions of h": (
        False,
        lambda w, m: edit_state(w, m, directions=w.directions),
        ("steer with them instead",),
    ),
    "steer, direction": (False, lambda w, m: steer(w, m, direction=9), ("directions between 1 and 2", "9")),
    "atlas, first": (
        False,
        lambda w, m: atlas(w, m, first=9),
        ("9",),
    ),
    "render, protect without a mask": (False, lambda w, m: render(w, m, protect=1.0), ("'protect'", "mask")),
    "render, aspect": (False, lambda w, m: render(w, m, protect=1.0, mask=ASPECT), ("aspect",)),
    "asyrp, one prompt twice": (
        False,
        lambda w, m: asyrp(w, m, target="a person"),
        ("source and target mean the same", "name in target"),
    ),
    "rectifier edit, one prompt twice": (
        False,
        lambda w, m: rectifier_edit(w, m, target="a person"),
        ("source and target mean the same", "name in target"),
    ),
    "rectifier edit, below the last step": (
        False,
        lambda w, m: rectifier_edit(w, m, sigma_start=1e-3),
        ("sigma_start 0.001",),
    ),
    "asyrp, sigma_edit above the top": (False, lambda w, m: asyrp(w, m, sigma_edit=190.0), ("sigma_edit", "190")),
    "invert, prompt of another width": (
        True,
        lambda w, m: w.inverted(m, positive=wide(w)),
        ("'positive'", "width 768", "CLIP of another model"),
    ),
    "invert, negative of another width": (
        True,
        lambda w, m: w.inverted(m, negative=wide(w), cfg=2.0),
        ("'negative'", "width 768"),
    ),
    "noises, prompt of another width": (True, lambda w, m: w.noised(m, positive=wide(w)), ("'positive'", "width 768")),
    "null-text, negative of another width": (
        True,
        lambda w, m: null_text(w, m, negative=wide(w)),
        ("'negative'", "width 768"),
    ),
    "lora, prompt of another width": (
        True,
        lambda w, m: image_lora(w, m, positive=wide(w)),
        ("'positive'", "width 768"),
    ),
    "features, source of another width": (
        True,
        lambda w, m: inject(w, m, source=wide(w)),
        ("'source'", "width 768"),
    ),
    "concepts, negative of another width": (
        True,
        lambda w, m: w.call("HSpaceConceptEditGuider", model=m, negative=wide(w), concepts=w.concepts),
        ("'negative'", "width 768"),
    ),
    "concepts, aspect": (
        True,
        lambda w, m: sample_concepts(w, m, mask=ASPECT),
        ("mask must have the aspect of the picture", "32x64"),
    ),
    "concepts, two masks": (
        True,
        lambda w, m: sample_concepts(w, m, mask=torch.ones(2, 64, 64)),
        ("one a picture of the batch of 1; got 2",),
    ),
    "morph, two sizes": (
        True,
        lambda w, m: morph(w, m, other_size(w)),
        ("size",),
    ),
}
