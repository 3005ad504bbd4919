"""The folder format of PIE-Bench, the benchmark drawn in it, and the runners that judge by it."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.text_blend import WAYS
from benchmarks.text_editing import BEST, METHODS, SAVE, SOURCE, Judge, Setup, bars
from benchmarks.text_model import judge
from core.faces.factors import is_held_out, sample
from core.faces.regressor import load_regressor
from core.measure.image import PSNR_CAP
from core.measure.pie import measure_pie
from core.measure.pie_folder import (
    IMAGES,
    MAPPING,
    PieItem,
    decode_mask,
    encode_mask,
    read_folder,
    read_picture,
    unmarked,
    write_folder,
    write_picture,
)
from scripts.draw_pie import IDEAL, make, marked, progress, read_truth, write
from scripts.pie_edits import BY_EDIT, EDITS

REGRESSOR = "weights/face_regressor.safetensors"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_masks_survive_the_round_trip(height, width, rng):
    mask = torch.tensor([[float(rng.random() < 0.5) for _ in range(width)] for _ in range(height)])
    runs = encode_mask(mask)
    assert torch.equal(decode_mask(runs, height, width, border=False), mask)
    assert all(length > 0 for length in runs[1::2])
    bordered = decode_mask(runs, height, width)
    assert (
        torch.equal(bordered[1:-1, 1:-1], mask[1:-1, 1:-1])
        and float(bordered[0].min()) == float(bordered[:, -1].min()) == 1
    )


def test_masks_of_the_benchmark_may_run_over_the_end():
    assert decode_mask([3, 100], 2, 3, border=False).tolist() == [[0, 0, 0], [1, 1, 1]]
    for runs in ([1], [-1, 2], [7, 1], [0, -3]):
        with pytest.raises(ValueError, match="mask"):
            decode_mask(runs, 2, 3)


ENTRY = {
    "image_path": "0_random/face.png",
    "original_prompt": "a [smiling] person",
    "editing_prompt": "a [frowning] person",
    "editing_instruction": "make them frown",
    "editing_type_id": "0",
    "blended_word": "smiling frowning",
    "mask": [70, 5, 100, 3],
}


def folder(tmp_path, **changes) -> Path:
    (tmp_path / IMAGES / "0_random").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (255, 0, 128)).save(tmp_path / IMAGES / "0_random" / "face.png")
    entry = {k: v for k, v in {**ENTRY, **changes}.items() if v is not ...}
    (tmp_path / MAPPING).write_text(json.dumps({"000000": entry}), "utf-8")
    return tmp_path


def test_a_folder_is_read_and_written(tmp_path):
    (item,) = read_folder(folder(tmp_path))
    assert (
        item.source_prompt == "a smiling person"
        and item.target_prompt == unmarked("a [frowning] person")
        and item.kind == 0
    )
    picture = item.image()
    assert picture.shape == (3, 12, 16) and picture[:, 0, 0].tolist() == pytest.approx(
        [1, -1, 128 / 127.5 - 1], abs=1e-6
    )
    mask = item.mask(12, 16)
    assert float(mask[4, 6:11].sum()) == 5 and float(mask[6, 4:7].sum()) == 3 and float(mask[0].min()) == 1
    write_picture(tmp_path / "again" / IMAGES / "x" / "y.png", picture)
    again = PieItem("k", tmp_path / "again" / IMAGES / "x" / "y.png", "a", "b", "", 3, "", (1, 2))
    write_folder(tmp_path / "again", [again])
    (read,) = read_folder(tmp_path / "again")
    assert read == again and torch.equal(read.image(), picture)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_path": "../../secret.png"},
        {"image_path": "/etc/passwd"},
        {"image_path": "a\\b.png"},
        {"image_path": 3},
        {"image_path": "a/" * 40 + "b"},
        {"original_prompt": ...},
        {"editing_prompt": "x" * 5000},
        {"editing_type_id": "12"},
        {"mask": [1]},
        {"mask": [1, True]},
        {"mask": [1.5, 2]},
        {"mask": [0, 10**12]},
        {"mask": "0,5"},
        {"blended_word": 3},
    ],
)
def test_hostile_entries_are_refused(tmp_path, changes):
    with pytest.raises(ValueError, match="entry '000000'"):
        read_folder(folder(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "[]", "{}", "nul", "[" * 100_000, '{"a": 3}', "\xff\xfe", '{"a": {"mask": NaN}}'])
def test_hostile_files_are_refused(tmp_path, text):
    (tmp_path / MAPPING).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="mapping_file"):
        read_folder(tmp_path)


def test_links_that_lead_out_and_pictures_that_are_none(tmp_path):
    inner = folder(tmp_path / "in")
    (tmp_path / "outside.png").write_bytes(b"x")
    face = inner / IMAGES / "0_random" / "face.png"
    face.unlink()
    face.symlink_to(tmp_path / "outside.png")
    with pytest.raises(ValueError, match="leads out"):
        read_folder(inner)
    face.unlink()
    face.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_folder(inner)[0].image()
    with pytest.raises(ValueError, match="mapping_file"):
        read_folder(tmp_path / "nowhere")


def test_the_drawn_benchmark(tmp_path):
    made = make(20, seed=3)
    write(tmp_path, made)
    items, truth = read_folder(tmp_path), read_truth(tmp_path)
    assert (
        len(items) == 20 and {made.edits.count(e.name) for e in EDITS} == {2} and bool(is_held_out(made.before).all())
    )
    source = torch.stack([i.image() for i in items])
    ideal = torch.stack([read_picture(tmp_path / IDEAL / i.path.relative_to(tmp_path / IMAGES)) for i in items])
    masks = torch.stack([i.mask(64, 64) for i in items])
    assert (
        torch.equal(masks[:, 1:-1, 1:-1], made.masks[:, 1:-1, 1:-1])
        and float(made.masks.flatten(1).mean(1).max()) < 0.7
    )
    scores = measure_pie(source, ideal, masks)
    assert float(scores["psnr_outside"].min()) == PSNR_CAP
    whole = [truth[i.key] for i in items]
    went = progress(load_regressor(REGRESSOR), source, ideal, whole)
    assert float(went.min()) > 0.8 and float(went.max()) < 1.2
    assert float(progress(load_regressor(REGRESSOR), source, source, whole).abs().max()) == 0
    for i, item in enumerate(items):
        factor = BY_EDIT[made.edits[i]].factor
        moved = [n for n in made.before if made.before[n][i] != made.after[n][i]]
        assert (
            moved == [factor]
            and item.source_prompt != item.target_prompt
            and "[" in item.target_marked + item.source_marked
        )
        phrase = {"hair_color": "hair", "glasses": "glasses", "bg_hue": "background", "eye_color": "eyes"}.get(
            factor, ""
        )
        assert phrase in item.target_prompt + item.source_prompt


def test_the_drawn_benchmark_is_a_function_of_its_seed(tmp_path):
    a, b, c = make(6, 1), make(6, 1), make(6, 2)
    assert torch.equal(a.source, b.source) and torch.equal(a.masks, b.masks) and a.prompts == b.prompts
    assert not torch.equal(a.source, c.source)
    assert read_truth(tmp_path) is None
    (tmp_path / "truth.json").write_text('{"0": 3}', "utf-8")
    with pytest.raises(ValueError, match="draw the benchmark again"):
        read_truth(tmp_path)


def test_marks_stand_around_what_differs():
    assert marked("a sad person with red hair", "a happy person with red hair and glasses") == (
        "a [sad] person with red hair",
        "a [happy] person with red hair [and glasses]",
    )
    assert marked("a b", "a b") == ("a b", "a b")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**9) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ENTRY, "x"]), inner, max_size=7),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=4),
        st.one_of(
            JSON, st.builds(lambda d: {**ENTRY, **d}, st.dictionaries(st.sampled_from(list(ENTRY)), JSON, max_size=2))
        ),
        max_size=3,
    )
)
def test_any_json_is_read_or_refused(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("any")
    (root / MAPPING).write_text(json.dumps(content), "utf-8")
    try:
        items = read_folder(root)
    except ValueError:
        return
    assert all(i.path.resolve().is_relative_to(root.resolve()) and 0 <= i.kind <= 9 for i in items)


def test_the_runner_judges_its_two_anchors_and_says_who_is_ahead(tmp_path):
    write(tmp_path, make(10, seed=4))
    court = Judge(tmp_path, read_folder(tmp_path), None, None)
    none, best = court.row(SOURCE, court.sources, 0.0), court.row(BEST, court.ideal, 0.0)
    assert (
        none["target moved"] == none["structure x1e3"] == none["others moved"] == 0 and none["PSNR outside"] == PSNR_CAP
    )
    assert best["target moved"] > 0.95 and best["reached half"] == 1 and best["PSNR outside"] == PSNR_CAP
    assert best["CLIP"] > none["CLIP"] + 5 and best["others moved"] < 0.02
    assert len(bars([none, best])) == 2
    rows = [{"method": n, "PSNR outside": v} for n, v in (("DDIM + P2P", 18.0), ("DirectInversion + P2P", 27.0))]
    (found,) = bars(rows)
    assert found["value"] == 9 and found["target"] == 6


@pytest.mark.parametrize("name", METHODS)
def test_graphs_of_methods_are_closed(name, tmp_path):
    (item,) = read_folder(folder(tmp_path))
    graph = METHODS[name](item, Setup({"class_type": "HSpaceLoadFaceTextModel", "inputs": {}}))
    links = [v[0] for n in graph.values() for v in n["inputs"].values() if isinstance(v, list)]
    assert set(links) <= set(graph) and graph[SAVE]["class_type"] == "SaveImage"


def test_the_graphs_without_blend_lack_that_node_and_nothing_else(tmp_path):
    (item,) = read_folder(folder(tmp_path))
    assert item.blended_word
    with_it, without = (
        way(item, Setup({"class_type": "HSpaceLoadFaceTextModel", "inputs": {}})) for way in WAYS.values()
    )
    assert with_it["edited"]["class_type"] == "HSpaceP2PLocalBlend" and with_it["edited"]["inputs"]["model"] == [
        "words",
        0,
    ]
    assert without == with_it | {"edited": with_it["words"]}


def test_the_judge_of_samples_counts_what_was_said():
    faces = sample(64, torch.Generator().manual_seed(5), held_out=True)
    right = judge(faces, faces)
    assert all(set(v[torch.isfinite(v)].tolist()) == {1.0} for v in right.values())
    said = (faces["hair_length"] > 0.62) | (faces["hair_length"] < 0.3)
    assert torch.equal(torch.isfinite(right["hair length"]), said)
    other = judge(
        faces,
        {
            **faces,
            "smile": -faces["smile"],
            "hair_color": (faces["hair_color"] + 1) % 5,
            "glasses": 1 - faces["glasses"],
        },
    )
    assert float(other["hair color"].sum()) == float(other["glasses"].sum()) == 0
    assert torch.equal(other["mood"].bool(), faces["smile"].abs() <= 0.35) and float(other["mouth"].min()) == 1
