import pytest
import torch
from torch.nn import functional as F

from core.photo.crop import crop, place_back
from core.photo.paste import paste_difference, region_of
from core.photo.placement import Placement, place_face, place_region, place_whole

G = torch.Generator().manual_seed(0)
POINTS = torch.tensor([[70.0, 60], [118, 72], [90, 90], [66, 106], [104, 116]])


def photograph(height=150, width=200, grain=0.04):
    """Soft shapes under fine grain."""
    soft = F.interpolate(torch.rand(1, 3, 6, 8, generator=G), (height, width), mode="bicubic").clamp(0.2, 0.8)
    return soft + grain * torch.randn(1, 3, height, width, generator=G).clamp(-3, 3)


def mask(height=150, width=200):
    painted = torch.zeros(1, height, width)
    painted[0, 60:100, 80:130] = 1
    return painted


def upright(painted=True, size=(150, 200)):
    square = place_region(mask(*size)[0], size, 1.7)
    return Placement(square[None], size, mask(*size) if painted else None)


def turned(painted=True):
    return Placement(place_face(POINTS)[None], (150, 200), mask() if painted else None)


WAYS = {"upright": upright, "turned": turned, "beyond": lambda painted=True: Placement(
    place_whole((150, 200))[None], (150, 200), mask() if painted else None)}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("painted", [True, False])
def test_no_change_gives_the_photograph_bit_for_bit(way, painted):
    photo, placement = photograph() * 1.3 - 0.1, WAYS[way](painted)
    same = crop(photo, placement, 0, 32) * 0.9
    assert torch.equal(paste_difference(photo, same, same, placement), photo)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_outside_the_feathered_region_changes(way):
    photo, placement = photograph(), WAYS[way]()
    before = crop(photo, placement, 0, 32)
    changed = paste_difference(photo, (before + 0.3).clamp(0, 1), before, placement, 0.06) != photo
    reach = round((1.5 if way == "turned" else 1) * 0.06 * placement.side(0)) * 2 + 2  # a turned corner reaches farther
    grown = F.max_pool2d(mask()[None], 2 * reach + 1, 1, reach)[0, 0] > 0
    assert changed.any() and not changed[0].any(0)[~grown].any()


def test_the_whole_change_arrives_where_the_mask_is():
    photo, placement = photograph(grain=0.0), upright()
    before = crop(photo, placement, 0, 34)
    after = paste_difference(photo, before + 0.1, before, placement)
    assert torch.allclose((after - photo)[..., 62:98, 82:128], torch.tensor(0.1), atol=1e-4)


def test_at_its_own_size_without_a_feather_the_difference_is_added_as_it_is():
    photo, placement = photograph(), upright(painted=False)
    side = placement.side(0)
    change = 0.05 * torch.randn(1, 3, side, side, generator=G)
    before = torch.full((1, 3, side, side), 0.5)
    left, top, right, bottom = placement.box(0)
    expected = photo.clone()
    expected[..., top:bottom, left:right] = (photo[..., top:bottom, left:right] + change).clamp(0, 1)
    assert torch.allclose(paste_difference(photo, before + change, before, placement, 0.0), expected, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_cropping_and_going_back_is_the_photograph_again(way):
    photo, placement = photograph(grain=0.0), WAYS[way](False)
    square, top, left = place_back(crop(photo, placement, 0, placement.side(0)), placement, 0)
    inside, _, _ = place_back(torch.ones(1, 1, 64, 64), placement, 0)
    part = photo[..., top : top + square.shape[2], left : left + square.shape[3]]
    assert float(((square - part).abs() * (inside > 0.999)).max()) < 0.02


def test_grain_stays_where_replacing_would_lose_it():
    photo, placement = photograph(600, 600), Placement(place_whole((600, 600))[None], (600, 600), None)
    small = crop(photo, placement, 0, 64)
    reconstruction = (small + 0.02 * torch.randn(small.shape, generator=G)).clamp(0, 1)
    edited = reconstruction.clone()
    edited[..., 20:40, 20:40] = (edited[..., 20:40, 20:40] + 0.1).clamp(0, 1)
    after = paste_difference(photo, edited, reconstruction, placement)
    fine = [picture - F.avg_pool2d(picture, 5, 1, 2) for picture in (photo, after)]
    kept = (fine[0] * fine[1]).sum() / (fine[0].square().sum() * fine[1].square().sum()).sqrt()
    assert float(kept) > 0.98


def test_shrinking_averages_and_does_not_alias():
    stripes = (torch.arange(512) % 2).float().expand(1, 3, 512, 512)
    placement = Placement(place_whole((512, 512))[None], (512, 512), None)
    assert float((crop(stripes, placement, 0, 64) - 0.5).abs()[..., 2:-2].max()) < 0.02


def test_beyond_the_photograph_its_edge_goes_on():
    photo = photograph(100, 200)
    square = crop(photo, Placement(place_whole((100, 200))[None], (100, 200), None), 0, 200)
    assert torch.equal(square[..., :50, :], photo[:, :, :1].expand(-1, -1, 50, -1).clamp(0, 1))
    assert torch.equal(square[..., 50:150, :], photo.clamp(0, 1))


def test_a_batch_with_squares_of_different_sizes():
    photos = torch.cat([photograph(), photograph(), photograph()])
    squares = torch.stack([upright().squares[0], turned().squares[0], place_whole((150, 200))])
    placement = Placement(squares, (150, 200), None)
    before = torch.cat([crop(photos[i : i + 1], placement, i, 32) for i in range(3)])
    both = torch.cat([before, before + 0.1]).clamp(0, 1)
    after = paste_difference(photos, both, before, placement)
    assert after.shape == (6, 3, 150, 200) and torch.equal(after[:3], photos)
    one = paste_difference(photos[1:2], both[4:5], before[1:2], Placement(squares[1:2], (150, 200), None))
    assert torch.equal(after[4:5], one)


def test_the_edge_of_a_square_inside_the_photograph_does_not_show():
    region = region_of(upright(painted=False), 0, 0.06)
    assert float(region[..., 0, :].max()) < 0.1 and float(region[..., 40:-40, 40:-40].min()) == 1
    whole = region_of(Placement(place_whole((150, 200))[None], (150, 200), None), 0, 0.06)
    assert float(whole.min()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photographs": torch.zeros(1, 3, 64, 64)}, "connect the picture that went into Fit Photo"),
        ({"photographs": torch.zeros(2, 3, 150, 200)}, "1 original"),
        ({"edited": torch.zeros(1, 3, 64, 64)}, "one Render Trajectory"),
        ({"edited": torch.zeros(1, 3, 32, 40), "reconstruction": torch.zeros(1, 3, 32, 40)}, "square"),
        ({"reconstruction": torch.zeros(3, 3, 32, 32)}, "1 squares"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    picture = torch.zeros(1, 3, 32, 32)
    given = {"photographs": torch.zeros(1, 3, 150, 200), "edited": picture, "reconstruction": picture}
    with pytest.raises(ValueError, match=message):
        paste_difference(**{**given, **change}, placement=upright())


def test_a_photograph_of_twelve_megapixels():
    photo = torch.rand(1, 3, 3000, 4000, generator=G)
    painted = torch.zeros(1, 3000, 4000)
    painted[0, 1200:1500, 2000:2600] = 1
    placement = Placement(place_region(painted[0], (3000, 4000), 1.7)[None], (3000, 4000), painted)
    before = crop(photo, placement, 0, 64)
    assert torch.equal(paste_difference(photo, before, before, placement), photo)
    after = paste_difference(photo, 1 - before, before, placement)
    assert torch.equal(after[..., :1000, :], photo[..., :1000, :]) and not torch.equal(after, photo)
