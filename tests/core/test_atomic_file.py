"""Files that several processes write into one folder: names, leftovers, rights, systems without hard links."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.atomic_file import check_writable, write_bytes
from core.own_file import Form, read_own
from core.paths import save_new

ROOT = Path(__file__).resolve().parents[2]
MANY = 50
SAVES = """
import errno, os, sys, time
from pathlib import Path
import torch
from core.own_file import write_own
from core.paths import save_new

folder, who, links = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
if links == "none":
    def link(*_, **__):
        raise OSError(errno.EPERM, "no hard links here")
    os.link = link
(folder / f".ready {who}").touch()
while len(list(folder.glob(".ready*"))) < 2:
    time.sleep(0.01)
for i in range(50):
    tensors, facts = {"w": torch.tensor([who, float(i)])}, {"format": "race", "version": 1}
    save_new(folder, "race", ".safetensors", lambda path: write_own(path, tensors, facts, new=True))
"""
STUCK = """
import os, sys, time
from core.atomic_file import write_bytes

def stuck(_):
    print("there", flush=True)
    time.sleep(600)

os.fsync = stuck
write_bytes(sys.argv[1], bytes(2**20))
"""


def python(code: str, *arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, **options)


@pytest.mark.parametrize("links", ["hard", "none"])
def test_two_processes_save_one_name_fifty_times_each(tmp_path, links):
    both = [python(SAVES, tmp_path, who, links) for who in (1.0, 2.0)]
    assert [p.wait(timeout=300) for p in both] == [0, 0]
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == 2 * MANY and {p.name for p in tmp_path.iterdir()} - {p.name for p in files} == {
        ".ready 1.0",
        ".ready 2.0",
    }
    found = {tuple(read_own(p, Form("race", 1, 2**20))[0]["w"].tolist()) for p in files}
    assert found == {(who, float(i)) for who in (1.0, 2.0) for i in range(MANY)}, "a save was lost"
    assert {p.name for p in files} == {"race.safetensors", *(f"race_{n}.safetensors" for n in range(2, 2 * MANY + 1))}


def test_a_name_that_is_taken_meanwhile_is_left_and_the_next_one_used(tmp_path):
    taken = []

    def write(path: Path) -> Path:
        if not taken:
            taken.append(path.write_bytes(b"theirs"))
        return write_bytes(path, b"ours", new=True)

    assert save_new(tmp_path, "mouth", ".png", write).name == "mouth_2.png"
    assert (tmp_path / "mouth.png").read_bytes() == b"theirs" and (tmp_path / "mouth_2.png").read_bytes() == b"ours"
    with pytest.raises(FileExistsError):
        write_bytes(tmp_path / "mouth.png", b"ours", new=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mouth.png", "mouth_2.png"]
    write_bytes(tmp_path / "mouth.png", b"replaced")
    assert (tmp_path / "mouth.png").read_bytes() == b"replaced"


def test_without_hard_links_a_save_that_fails_leaves_no_name_behind(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=r"cannot write 'a\.png'"):
        write_bytes(tmp_path / "a.png", b"x", new=True)
    assert not list(tmp_path.iterdir())


def test_a_killed_save_is_cleared_away_by_the_next_one(tmp_path):
    process = python(STUCK, tmp_path / "a.safetensors", stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    (part,) = tmp_path.iterdir()
    assert part.name.startswith(".hspace-") and part.stat().st_size == 2**20
    write_bytes(tmp_path / "b.safetensors", b"meanwhile")
    assert part.exists(), "its process is still writing"
    process.send_signal(signal.SIGKILL)
    process.wait()
    write_bytes(tmp_path / "b.safetensors", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["b.safetensors"]


def test_only_parts_of_ours_go_and_those_of_other_machines_by_age(tmp_path):
    other = "0123abcd"  # no digest of this machine
    old, young = tmp_path / f".hspace-{other}-1-00000000.part", tmp_path / f".hspace-{other}-1-00000001.part"
    foreign = [tmp_path / name for name in (".abc12345.part", ".hidden", ".hspace-notes.part", "movie.part")]
    for path in (old, young, *foreign):
        path.write_bytes(b"x")
    (tmp_path / f".hspace-{other}-1-00000002.part").mkdir()
    for path in (old, *foreign):
        os.utime(path, (time.time() - 7200,) * 2)
    write_bytes(tmp_path / "a", b"x")
    assert {p.name for p in tmp_path.iterdir()} == {
        "a",
        young.name,
        f".hspace-{other}-1-00000002.part",
        *(p.name for p in foreign),
    }


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.parametrize("new", [True, False])
def test_files_have_the_rights_that_the_umask_gives(tmp_path, monkeypatch, umask, mode, new):
    def no_links(*_):
        raise OSError(errno.EPERM, "")

    before = os.umask(umask)
    try:
        written = [write_bytes(tmp_path / "a", b"x", new)]
        monkeypatch.setattr(os, "link", no_links)
        written.append(write_bytes(tmp_path / "b", b"x", new))
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in written] == [mode, mode]


def test_a_folder_that_cannot_be_written_is_known_before_the_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "a.safetensors")
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match=r"cannot write into .*file"):
        check_writable(tmp_path / "file" / "a.safetensors")

    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match="Read-only"):
        check_writable(tmp_path / "a.safetensors")
