"""Files of our own appear whole or not at all."""

import errno
import os

import pytest
import torch

from core.own_file import Form, read_own, write_bytes, write_own


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_of_before_and_nothing_else(tmp_path, monkeypatch, call):
    path = write_bytes(tmp_path / "a.safetensors", b"before")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(
        OSError, match=r"cannot write 'a.safetensors' \(1\.0 MB\): .*make room in .* what was made is still there"
    ):
        write_bytes(path, bytes(2**20))
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r"cannot write 'a\.safetensors'"):
        write_bytes(tmp_path / "none" / "a.safetensors", b"x")


def test_what_is_written_is_read_back_and_values_that_no_reader_takes_are_not_written(tmp_path):
    facts, weight = {"format": "f", "version": 3, "more": [1, "two"]}, torch.randn(4, 3).T  # not contiguous
    path = write_own(tmp_path / "a.safetensors", {"w": weight, "same": weight}, facts)
    tensors, found, _ = read_own(path, Form("f", 3, 2**20))
    assert found == facts and set(tensors) == {"w", "same"} and all(torch.equal(v, weight) for v in tensors.values())
    before = path.read_bytes()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"\(w\).*lower learning rate"):
            write_own(path, {"w": torch.tensor([1.0, bad])}, facts)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
