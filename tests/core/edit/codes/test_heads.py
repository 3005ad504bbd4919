"""Heads on semantic codes: their files, and how they are found."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from core.codes import CodeSpace
from core.files.heads import CELEBA, heads_from_payload, heads_to_payload, load_heads, save_heads
from core.measure.auroc import auroc
from core.own_file import write_own
from core.train.heads import Attribute, fit_heads, parse_labels, validate_head, with_statistics

from ...released_diffae import STATISTICS, WIDE, lightning, saved, weights
from ...spaces import FINGERPRINT, SPACES, heads_of


def test_scores_are_the_released_formula():
    space = SPACES[0]
    heads, z = heads_of(space), torch.randn(4, 16)
    literal = F.linear((z - space.mean) / space.std, heads.weight, heads.bias)
    torch.testing.assert_close(heads.scores(z), literal)
    assert heads.index(" black hair") == 1 and "BLACK-hair" in heads and "hair" not in heads
    with pytest.raises(ValueError, match="unknown attribute 'gloves'; did you mean glasses"):
        heads.index("gloves")
    with pytest.raises(ValueError, match="there are: smile, Black_Hair"):
        heads.index("xyz")
    with pytest.raises(ValueError, match="belong to model"):
        heads.check_space(CodeSpace((16,), "ba9876543210"))


@pytest.mark.parametrize("space", SPACES)
def test_heads_come_back_from_file_and_socket(tmp_path, space):
    heads = heads_of(space)
    for again in (
        heads_from_payload(heads_to_payload(heads)),
        load_heads(save_heads(tmp_path / "h.safetensors", heads), space),
    ):
        assert again.names == heads.names and again.kinds == heads.kinds and again.space.shape == space.shape
        assert all(
            torch.equal(a, b)
            for a, b in (
                (again.weight, heads.weight),
                (again.bias, heads.bias),
                (again.space.mean, space.mean),
                (again.space.std, space.std),
            )
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a", "a", "b", "c", "d"]}, "each once"),
        ({"names": ["a", "A ", "b", "c", "d"]}, "each once"),
        ({"names": ["a" * 101, "b", "c", "d", "e"]}, "up to 100 letters"),
        ({"names": ["a\nb", "c", "d", "e", "f"]}, "need names"),
        ({"names": ["a"]}, "weight"),
        ({"kinds": ["x"] * 5}, "kinds must be"),
        ({"shape": [17]}, "weight|finite values"),
        ({"shape": ["16"]}, "out of range"),
        ({"fingerprint": "../../x"}, "out of range"),
        ({"std": torch.zeros(16)}, "above 0"),
        ({"weight": torch.full((5, 16), torch.nan)}, "NaN"),
        ({"bias": None}, "out of range"),
        ({"format": "hspace.delta"}, "connect Train Attribute Heads"),
    ],
)
def test_damaged_heads(change, message):
    with pytest.raises(ValueError, match=message):
        heads_from_payload(heads_to_payload(heads_of(SPACES[0])) | change)


def test_released_classifier_has_the_celeba_names(tmp_path):
    w, b = torch.randn(40, WIDE), torch.randn(40)
    state = STATISTICS | {
        "classifier.weight": w,
        "classifier.bias": b,
        "ema_classifier.weight": w + 1,
        "ema_classifier.bias": b + 1,
    }
    path = saved(tmp_path / "cls.ckpt", {**lightning({}), "state_dict": state})
    space = CodeSpace((WIDE,), FINGERPRINT)
    heads = load_heads(path, space)
    assert torch.equal(heads.weight, w) and torch.equal(heads.bias, b) and len(CELEBA) == 40
    assert [heads.index(n) for n in ("Bangs", "Eyeglasses", "Male", "Smiling", "Wavy_Hair", "Young")] == [
        5,
        15,
        20,
        31,
        33,
        39,
    ]
    assert list(CELEBA) == sorted(CELEBA, key=str.casefold)
    for other, message in ((None, "does not say which model"), (CodeSpace((7,), FINGERPRINT), "codes of 32 numbers")):
        with pytest.raises(ValueError, match=message):
            load_heads(path, other)
    with pytest.raises(ValueError, match=r"classifier\.weight"):
        load_heads(saved(tmp_path / "ae.ckpt", lightning(weights())), space)


def test_other_own_files_are_no_heads(tmp_path):
    write_own(tmp_path / "x.safetensors", {"a": torch.ones(1)}, {"format": "hspace.delta", "version": 1})
    with pytest.raises(ValueError, match=r"expected hspace\.heads") as caught:
        load_heads(tmp_path / "x.safetensors")
    assert str(caught.value).count("x.safetensors") == 1
    write_own(tmp_path / "y.safetensors", {"a": torch.ones(1)}, {"format": "hspace.heads", "version": 1})
    with pytest.raises(ValueError, match=r"y\.safetensors.*lacks 'names'"):
        load_heads(tmp_path / "y.safetensors")


def world(n=600, d=12, seed=3):
    """Codes whose class means differ in a known way and whose coordinates go together."""
    g = torch.Generator().manual_seed(seed)
    root = torch.eye(d) + 0.6 * torch.randn(d, d, generator=g) / d**0.5
    y = torch.rand(n, generator=g) < 0.4
    gap = torch.randn(d, generator=g)
    codes = torch.randn(n, d, generator=g) @ root + 1.2 * y[:, None] * gap + 3
    age = codes @ torch.linspace(-1, 1, d) + 0.1 * torch.randn(n, generator=g)
    return codes, y, age


def test_ridge_lda_solves_its_equation():
    codes, y, _ = world()
    space = with_statistics(CodeSpace((12,), FINGERPRINT), codes)
    assert torch.allclose(space.mean, codes.mean(0), atol=1e-5) and torch.allclose(space.std, codes.std(0), atol=1e-5)
    heads = fit_heads(codes, {"y": y}, space, "ridge-lda", 0.3)
    x = space.normalise(codes).double()
    inside = torch.cat([x[y] - x[y].mean(0), x[~y] - x[~y].mean(0)])
    left = (inside.T @ inside / (len(x) - 2) + 0.3 * torch.eye(12)) @ heads.weight[0].double()
    torch.testing.assert_close(left, x[y].mean(0) - x[~y].mean(0), atol=1e-5, rtol=1e-5)
    total = torch.cov(x.T, correction=0)  # the spec's S; the direction is the same whichever covariance is meant
    other = torch.linalg.solve(total + 0.3 * torch.eye(12) * (len(x) - 2) / len(x), x[y].mean(0) - x[~y].mean(0))
    assert F.cosine_similarity(other, heads.weight[0].double(), dim=0) == pytest.approx(1, abs=1e-6)


def test_mean_difference_and_least_squares():
    codes, y, age = world()
    space = with_statistics(CodeSpace((12,), FINGERPRINT), codes)
    heads = fit_heads(codes, {"y": y, "age": age, "same": y.float()}, space, "mean", 0.0)
    assert heads.kinds == ("mean", "least squares", "mean")
    x = space.normalise(codes)
    torch.testing.assert_close(heads.weight[0], x[y].mean(0) - x[~y].mean(0), atol=1e-5, rtol=1e-5)
    assert torch.equal(heads.weight[0], heads.weight[2])
    design = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    oracle = torch.linalg.lstsq(design, age.double()[:, None]).solution[:, 0].float()
    torch.testing.assert_close(torch.cat([heads.weight[1], heads.bias[1:2]]), oracle, atol=1e-4, rtol=1e-4)
    residual = heads.scores(codes)[:, 1] - age
    assert residual.std() < 0.15 and residual.mean().abs() < 1e-4


def test_logistic_regression_is_stationary_and_matches_scipy():
    from scipy.optimize import minimize

    codes, y, _ = world()
    space = with_statistics(CodeSpace((12,), FINGERPRINT), codes)
    heads = fit_heads(codes, {"y": y}, space, "logistic", 0.01)
    x = space.normalise(codes).double().numpy()
    t = y.double().numpy() * 2 - 1

    def loss(w):
        import numpy as np

        return np.logaddexp(0, -t * (x @ w[:-1] + w[-1])).mean() + 0.005 * (w[:-1] ** 2).sum()

    found = minimize(loss, [0.0] * 13, method="BFGS", options={"gtol": 1e-7})
    torch.testing.assert_close(
        torch.cat([heads.weight[0], heads.bias]), torch.tensor(found.x).float(), atol=2e-3, rtol=2e-3
    )


def test_separable_classes_keep_a_finite_head():
    codes = torch.cat([torch.randn(20, 4) - 9, torch.randn(20, 4) + 9])
    y = torch.arange(40) >= 20
    space = with_statistics(CodeSpace((4,), FINGERPRINT), codes)
    for method in ("ridge-lda", "mean", "logistic"):
        heads = fit_heads(codes, {"y": y}, space, method, 0.0 if method == "logistic" else 0.1)
        assert auroc(heads.scores(codes)[:, 0], y) == 1.0
        assert torch.equal(heads.scores(codes)[:, 0] > 0, y)


def test_more_coordinates_than_pictures():
    codes = torch.randn(10, 2, 20)
    y = torch.arange(10) % 2 == 0
    space = with_statistics(CodeSpace((2, 20), FINGERPRINT), codes)
    for ridge in (0.0, 0.1):
        heads = fit_heads(codes, {"y": y, "c": torch.randn(10)}, space, "ridge-lda", ridge)
        assert heads.weight.shape == (2, 40)


@pytest.mark.parametrize("method", ["ridge-lda", "mean", "logistic"])
def test_heads_find_what_they_are_shown(method):
    codes, y, _ = world()
    space = with_statistics(CodeSpace((12,), FINGERPRINT), codes[:400])
    heads = fit_heads(codes[:400], {"y": y[:400]}, space, method)
    again = fit_heads(codes[:400], {"y": y[:400]}, space, method)
    assert torch.equal(heads.weight, again.weight)
    held = heads.scores(codes[400:])[:, 0]
    assert auroc(held, y[400:]) > 0.9 and ((held > 0) == y[400:]).float().mean() > 0.8


def test_labels_that_cannot_be_learnt():
    codes, y, _ = world(20)
    space = with_statistics(CodeSpace((12,), FINGERPRINT), codes)
    for labels, message in (
        ({}, "no attribute"),
        ({"y": y[:5]}, "one finite label a picture"),
        ({"y": torch.full((20,), torch.nan)}, "one finite label"),
        ({"y": torch.zeros(20)}, "two pictures with it and two without, got 0"),
        ({"y": torch.arange(20) == 3}, "got 1 of one kind"),
        ({"y": torch.full((20,), 5.0)}, "attribute 'y' is 5 in every picture"),
        ({"y" * 101: y}, "up to 100 letters"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_heads(codes, labels, space)
    with pytest.raises(ValueError, match="method must be one of"):
        fit_heads(codes, {"y": y}, space, "svm")
    with pytest.raises(ValueError, match="unknown, which normalised edits need"):
        fit_heads(codes, {"y": y}, CodeSpace((12,), FINGERPRINT))
    with pytest.raises(ValueError, match="at least two codes"):
        with_statistics(CodeSpace((12,), FINGERPRINT), codes[:1])


def test_auroc_counts_pairs():
    for n, levels in ((7, 3), (40, 5), (60, 1000)):
        scores, labels = torch.randint(levels, (n,)).float(), torch.rand(n) < 0.4
        labels[:2] = torch.tensor([True, False])
        pairs = [
            (a > b) + 0.5 * (a == b) for a, b in itertools.product(scores[labels].tolist(), scores[~labels].tolist())
        ]
        assert auroc(scores, labels) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
        assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels))
    for scores, labels in (
        (torch.ones(3), torch.ones(3)),
        (torch.ones(3), torch.ones(4)),
        (torch.tensor([1.0, torch.nan]), torch.tensor([1, 0])),
    ):
        with pytest.raises(ValueError, match=r"AUROC needs|must be"):
            auroc(scores, labels)


def test_an_attribute_is_learnt_measured_and_joined():
    g = torch.Generator().manual_seed(7)
    codes, space = torch.randn(60, 16, generator=g), CodeSpace((16,), FINGERPRINT)
    labels = (codes[:, 3] > 0).float()
    first, text = Attribute(" tall ").learn(codes, labels, space)
    measured = with_statistics(space, codes)
    assert torch.equal(first.weight, fit_heads(codes, {"tall": labels}, measured).weight)
    assert f"AUROC {validate_head(codes, labels, measured):.3f}" in text and "60 pictures" in text
    both, text = Attribute("length").learn(codes, codes[:, 5], space, first)
    assert both.names == ("tall", "length") and "correlation" in text
    with pytest.raises(ValueError, match="5 pictures are too few"):
        Attribute("tall").learn(codes, torch.cat([torch.ones(5), torch.zeros(55)]), space)


def test_numbers_are_read_one_a_picture():
    assert parse_labels("1, 2.5\n-3", 3).tolist() == [1.0, 2.5, -3.0]
    for text, words in (("1 two", "must be numbers"), ("1 2", "each of the 3 pictures, got 2"), ("1 2 inf", "finite")):
        with pytest.raises(ValueError, match=words):
            parse_labels(text, 3)
