"""What strangers write into the texts of a file is checked, and nothing of it reaches a message as it stands."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from core.codes import CodeSpace
from core.directions import Directions
from core.files import code_edits as code_edit_io
from core.files import kinds
from core.files.asyrp import asyrp_from_payload, asyrp_to_payload, load_asyrp, save_asyrp
from core.files.diffusionclip import load_weights, save_weights
from core.files.directions import load_directions, save_directions
from core.files.heads import load_heads, save_heads
from core.files.rectifier import TrainedRectifier, load_rectifier, save_rectifier
from core.networks.asyrp import ShiftTable, TrainedAsyrp
from core.networks.deltaedit import DeltaMapper
from core.networks.heads import Heads
from core.networks.pada import PADA
from core.networks.rectifier import RectifierNet
from core.networks.step import StepEmbedding
from core.networks.weight_difference import WeightDelta
from core.own_file import Form, read_own, write_own
from core.text import MESSAGE, check_texts, cleaned, is_plain, label, labels, quoted
from core.train.run import Optimiser, Run
from core.train.state import load_state, save_state

BAD = {
    "long": "x" * 50_000,
    "NUL": "a\0b",
    "escape": "a\x1b[2Jb",
    "line": "a\nb",
    "folder": "a/../../etc/passwd",
    "folder of Windows": "..\\..\\a",
    "direction": "a\u202eb",
    "mark": "\u200fa",
    "isolate": "a\u2066b",
    "surrogate": "a\ud800b",
    "tag": "a\U000e0041b",
}
FINGERPRINT, STATS = "0123456789ab", (torch.zeros(4), torch.ones(4))


def directions():
    vectors = torch.nn.functional.normalize(torch.randn(1, 2, 3, 4, 4).flatten(2), dim=2).reshape(1, 2, 3, 4, 4)
    return Directions(
        vectors=vectors,
        sigmas=torch.tensor([1.0], dtype=torch.float64),
        gain=torch.ones(1, 2),
        leak=torch.ones(1, 2),
        layer="middle",
        fingerprint=FINGERPRINT,
        mask=None,
        method="m",
        labels=("a", "b"),
        spectrum=torch.ones(3),
    )


def code_edit(net):
    return code_edit_io.TrainedCodeEdit(net, CodeSpace((4,), FINGERPRINT, *STATS), "space", "label", {"note": "n"})


def fit():
    module = torch.nn.Linear(2, 2)
    made = Run(module, Optimiser(1e-3), 3)
    made.step(module(torch.ones(1, 2)).sum())
    return made


TABLE = TrainedAsyrp(
    ShiftTable(torch.ones(2, 3, 4, 4), torch.ones(2)),
    FINGERPRINT,
    1.0,
    3,
    label="label",
    extra={"source": "face"},
    whole_steps=6,
)
RECTIFIER = TrainedRectifier(
    RectifierNet({"a": (4, 4)}, StepEmbedding(4, 8, True, torch.ones(3)), 4, 8, 4),
    FINGERPRINT,
    False,
    1.0,
    "label",
    {"note": "n"},
)
FORMATS = {
    "directions": (lambda path: save_directions(path, directions()), load_directions),
    "delta": (lambda path: save_asyrp(path, TABLE), load_asyrp),
    "rectifier": (lambda path: save_rectifier(path, RECTIFIER), load_rectifier),
    "weights": (
        lambda path: save_weights(
            path, WeightDelta({"a.weight": torch.ones(2, 2)}, {}, FINGERPRINT, "label", {"note": "n"})
        ),
        load_weights,
    ),
    "heads": (
        lambda path: save_heads(
            path, Heads(("a",), torch.ones(1, 4), torch.ones(1), CodeSpace((4,), FINGERPRINT, *STATS), ("mean",))
        ),
        load_heads,
    ),
    "mapper": (
        lambda path: code_edit_io.save_code_edit(path, code_edit(DeltaMapper((4,), 5, 6))),
        lambda path: code_edit_io.load_code_edit(path, kinds.DELTAEDIT),
    ),
    "pada": (
        lambda path: code_edit_io.save_code_edit(path, code_edit(PADA((4,), 5, 6))),
        lambda path: code_edit_io.load_code_edit(path, kinds.PADA),
    ),
    "training": (
        lambda path: save_state(path, fit(), {"source": "a\nb"}),
        lambda path: load_state(path, fit(), {"source": "a\nb"}),
    ),
    "own": (
        lambda path: write_own(path, {"w": torch.ones(2)}, {"format": "f", "version": 1, "text": "t"}),
        lambda path: read_own(path, Form("f", 1, 2**20)),
    ),
}


def places(value, path=()):
    """Every text in a JSON value, and every key that could be one more."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from places(inner, (*path, i))


def put(value, path, text):
    if not path:
        return text
    made = dict(value) if isinstance(value, dict) else list(value)
    made[path[0]] = put(made[path[0]], path[1:], text)
    return made


@pytest.mark.parametrize("form", FORMATS)
def test_no_text_of_an_own_file_is_taken_unchecked(tmp_path, form):
    file, (save, load) = tmp_path / "a.safetensors", FORMATS[form]
    save(file)
    load(file)
    tensors = load_file(file)
    with safe_open(file, "pt") as f:
        facts = json.loads(f.metadata()["hspace"])
    spots = [p for p in places(facts) if p[0] != "settings"]
    assert spots and "format" in facts
    for spot in spots:
        for name, text in BAD.items():
            save_file(tensors, file, {"hspace": json.dumps(put(facts, spot, text))})
            with pytest.raises(ValueError) as caught:
                load(file)
            said = str(caught.value)
            assert said.isprintable() and len(said) <= MESSAGE, f"{spot}, {name}"
            assert "../" not in said or name == "folder"
    if "extra" in facts:
        for text in BAD.values():
            save_file(tensors, file, {"hspace": json.dumps({**facts, "extra": {text: 1}})})
            with pytest.raises(ValueError):
                load(file)


@pytest.mark.parametrize("form", FORMATS)
def test_names_of_tensors_do_not_reach_a_message(tmp_path, form):
    file, (save, load) = tmp_path / "a.safetensors", FORMATS[form]
    save(file)
    tensors = load_file(file)
    with safe_open(file, "pt") as f:
        meta = f.metadata()
    for name, text in BAD.items():
        if name == "surrogate":
            continue  # no UTF-8
        first = sorted(tensors)[0]
        for changed in (
            {**tensors, text: torch.full((2,), torch.nan)},
            {(text if k == first else k): v for k, v in tensors.items()},
        ):
            save_file(changed, file, meta)
            try:
                load(file)
            except ValueError as error:
                assert str(error).isprintable() and len(str(error)) <= MESSAGE, name
            else:
                assert form == "own"  # has no names of its own


def test_texts_that_people_typed_are_written_so_that_they_are_read(tmp_path):
    typed = "old  man\n" + "\u202e" + "x" * 500 + "../"
    for extra in ({"source": typed}, {"more": [{"deep": typed}]}):
        made = TrainedAsyrp(TABLE.shift, FINGERPRINT, 1.0, 3, label=typed, extra=extra)
        found = load_asyrp(save_asyrp(tmp_path / "a.safetensors", made))
        assert found.label == ("old man " + "x" * 500)[:300] and is_plain(found.label)
        assert asyrp_from_payload(asyrp_to_payload(made)).label == found.label


def test_helpers():
    assert label("a..././b") == "a.b" or not label("a..././b").count("../")
    assert labels({"a\n": ["b\0", 1, None, True, 2.5]}) == {"a": ["b", 1, None, True, 2.5]}
    assert quoted(10**5000) == "a number of 16610 bits"
    assert quoted("a\nb") == r"'a\nb'" and len(quoted("x" * 10**6)) <= 60
    assert cleaned("a\n\tb\x1b\u202e") == r"a b\x1b\u202e" and len(cleaned("\x1b" * 10**6, 1000)) == 1000
    assert all(not is_plain(text) for text in BAD.values()) and is_plain("Lächeln > 微笑, 50 %") and not is_plain(3)
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        check_texts(deep)
