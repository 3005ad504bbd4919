"""Small files that claim much memory.

The claims are of 200 MB to 1 GiB; a reader that believes one grows by that much.
"""

import io
import json
import pickle
import struct
import zipfile

import torch

MANY = 50_000_000  # float32 numbers, 200 MB
HOLE = 2**30


class Call:
    """Pickled as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


def bomb(depth=40):
    value = ("x",)
    for _ in range(depth):
        value = (value, value)
    return value


def hexed(times=24):
    import _codecs

    value = b"0123456789abcdef"
    for _ in range(times):
        value = Call(_codecs.encode, value, "hex")
    return value


def deep(levels=100_000):
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


def archive(path, data, records=None):
    """A file of torch.save around a pickle of one's own."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr("a/data.pkl", data)
        z.writestr("a/byteorder", "little")
        for name, content in (records or {"a/data/0": b"\0" * 16}).items():
            z.writestr(name, content)
        z.writestr("a/version", "3\n")


def overstated(path, names, dtype=torch.float32):
    """A tensor and its storage that claim 50 million entries; 77 are there."""
    buffer = io.BytesIO()
    torch.save({name: torch.zeros(77, dtype=dtype) for name in names[:1]}, buffer)
    with zipfile.ZipFile(buffer) as z:
        data = next(z.read(n) for n in z.namelist() if n.endswith("data.pkl"))
    archive(path, data.replace(b"K\x4d", b"J" + struct.pack("<i", MANY)), {"a/data/0": b"\0" * 77 * dtype.itemsize})


def overstated_legacy(path, names):
    buffer = io.BytesIO()
    torch.save({name: torch.zeros(77) for name in names[:1]}, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue().replace(b"K\x4d", b"J" + struct.pack("<i", MANY)))


def named(value):
    return lambda path, names: torch.save(dict.fromkeys(names, value), path)


def long_text(path, names):
    archive(path, b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc.")


def shared(path, names):
    one = torch.ones(1_000_000)
    torch.save({f"{names[0]}{i}": one.view(1000, 1000)[: 1000 - i % 3] for i in range(200)}, path)


PICKLES = {
    "expanded": named(torch.zeros(1).expand(MANY)),
    "expanded half": named(torch.zeros(1).half().expand(160, 1000, 1000)),
    "window": named(torch.zeros(20_000).as_strided((10_000, 10_000), (1, 1))),
    "shared": shared,
    "bytearray": named(Call(bytearray, 2 * HOLE)),
    "bytes": named(Call(bytes, 2 * HOLE)),
    "encoded": named(hexed()),
    "tensor": named(Call(torch.FloatTensor, MANY)),
    "newer type": lambda path, names: overstated(path, names, torch.uint16),
    "memo": named(bomb()),
    "key": lambda path, names: archive(
        path, b"\x80\x02}X\1\0\0\0x\x85" + b"q\0h\0\x86" * 40 + b"K\1s."
    ),  # to hash it takes 2^40 steps
    "deep": lambda path, names: archive(path, deep()),
    "deep tuple": lambda path, names: archive(path, b"\x80\x02}(" + b")" + b"\x85" * 1_000_000 + b"K\1u."),
    "dicts": lambda path, names: archive(path, b"\x80\x02](" + b"}" * 1_000_000 + b"e."),
    "marks": lambda path, names: archive(path, b"\x80\x02" + b"(" * 1_000_000 + b"."),
    "integer": lambda path, names: archive(
        path, b"\x80\x02\x8b" + struct.pack("<i", 6_000_000) + b"\x7f" * 6_000_000 + b"."
    ),
    "text": long_text,
    "overstated": overstated,
    "overstated legacy": overstated_legacy,
    "raw": lambda path, names: path.write_bytes(pickle.dumps({names[0]: Call(bytearray, 2 * HOLE)}, 2)),
}

SLOW = ("deep", "deep tuple", "dicts", "marks", "lists", "deep header", "integer")
"""Seconds of parsing each, before anything of a reader's own is reached: for one reader."""


def holed(path, tensors, meta=None):
    """A safetensors file of nothing but its header; the last tensor is a hole of the disk."""
    header, end = ({"__metadata__": meta} if meta else {}), 0
    for name, shape in tensors.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def header_only(text, length=None):
    def write(path, *_):
        path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text)

    return write


HEADERS = {
    "claimed": header_only(
        json.dumps({"a": {"dtype": "F32", "shape": [MANY], "data_offsets": [0, 4 * MANY]}}).encode()
    ),
    "negative": header_only(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}'),
    "huge shape": header_only(b'{"a": {"dtype": "F32", "shape": [%s, 0], "data_offsets": [0, 0]}}' % (b"9" * 1000)),
    "long header": header_only(b"{}", 2**40),
    "lists": header_only(b'{"a": [' + b"[]," * 1_000_000 + b"[]]}"),
    "deep header": header_only(b"[" * 500_000 + b"]" * 500_000),
}
