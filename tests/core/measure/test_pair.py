"""Two pictures brought to one size, with masks and prompts for each."""

import pytest
import torch

from core.measure.pair import crop_alike, lines_for, masks_for, reconstruction_sheet


def test_what_a_vae_crops_is_cut_off_the_first():
    before, after, mask = torch.rand(2, 3, 70, 66), torch.rand(2, 3, 64, 64), torch.rand(70, 66)
    cut, inside, note = crop_alike(before, after, mask)
    assert torch.equal(cut, before[..., 3:67, 1:65]) and torch.equal(inside, mask[3:67, 1:65])
    assert "'before' is 66x70, 'after' 64x64" in note
    assert crop_alike(after, after, None) == (after, None, "")


def test_other_sizes_and_numbers_are_refused():
    with pytest.raises(ValueError, match="scale 'source' to 10x10"):
        crop_alike(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 10, 10), None, ("source", "edited"))
    with pytest.raises(ValueError, match="'before' holds 1 pictures, 'after' 2"):
        crop_alike(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8), None)


def test_masks_keep_hard_edges():
    mask = (torch.rand(1, 8, 8) > 0.5).float()
    fitted = masks_for(mask, torch.zeros(3, 3, 16, 16))
    assert torch.equal(fitted, mask.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert masks_for(None, torch.zeros(3, 3, 16, 16)) is None
    for wrong, words in ((torch.zeros(2, 8, 8), "one for each of the 3"), (torch.zeros(8, 16), "must have the aspect")):
        with pytest.raises(ValueError, match=words):
            masks_for(wrong, torch.zeros(3, 3, 16, 16))


def test_prompts_are_one_or_one_a_picture():
    assert lines_for(" a \n\n b", 2, "text") == ["a", "b"] and lines_for("", 2, "text") == []
    with pytest.raises(ValueError, match="'text' must have one line, or one for each of the 3"):
        lines_for("a\nb", 3, "text")


def test_a_reconstruction_is_measured_and_shown():
    quality, sheet = reconstruction_sheet(torch.zeros(5, 3, 16, 16), torch.full((5, 3, 16, 16), 0.2))
    assert quality == pytest.approx(20.0) and sheet.shape[0] == 1 and sheet.shape[-1] == 3
