"""Thousands of damaged copies of sound files: whatever a reader says of one, it is a ValueError that can be shown."""

import numpy as np
import pytest
import torch

from core.text import MESSAGE

from ..hostile_readers import readers
from ..test_hostile_text import FORMATS

TIMES = 150


def damaged(whole, random):
    """A copy with some bytes changed, most of them in the structure; or cut off, or with bytes put in."""
    data = bytearray(whole)
    reach = random.choice([64, 600, len(data)])
    for _ in range(random.integers(1, 5)):
        place = int(random.integers(0, min(reach, len(data))))
        place = len(data) - 1 - place if random.random() < 0.3 else place
        data[place] = int(random.choice([0, 0xFF, ord("9"), ord('"'), int(random.integers(0, 256))]))
    if random.random() < 0.15:
        del data[int(random.integers(0, len(data))) :]
    if random.random() < 0.1:
        place = int(random.integers(0, len(data) + 1))
        data[place:place] = random.bytes(int(random.integers(1, 9)))
    return bytes(data)


def attack(read, path, whole, seed):
    random, taken = np.random.default_rng(seed), 0
    for _ in range(TIMES):
        path.write_bytes(damaged(whole, random))
        try:
            read(path)
            taken += 1
        except ValueError as error:
            assert str(error).isprintable() and len(str(error)) <= MESSAGE
    return taken


@pytest.mark.parametrize("form", FORMATS)
def test_own_files(tmp_path, form):
    path, (save, load) = tmp_path / "a.safetensors", FORMATS[form]
    save(path)
    load(path)
    assert attack(load, path, path.read_bytes(), 1) < TIMES


@pytest.mark.parametrize("kind", ["archive", "legacy"])
@pytest.mark.parametrize("name", ["network", "autoencoder", "statistics", "released heads", "lpips", "dino", "asyrp"])
def test_foreign_files(tmp_path, name, kind):
    read, suffix, names, _, _ = readers()[name]
    path = tmp_path / f"a{suffix}"
    content = {
        key: torch.linspace(0.5, 1, 4)[:, None] if "weight" in key else torch.linspace(0.5, 1, 4) for key in names
    }
    torch.save(content, path, _use_new_zipfile_serialization=kind == "archive")
    assert attack(read, path, path.read_bytes(), 2) < TIMES
