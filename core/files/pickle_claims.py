"""Describe what the pickles of ``torch.save`` would make, without making it.

The opcodes of its pickle are followed on a stack of descriptions. Only calls that ``torch.save`` itself writes for
tensors and plain values are let through, and only if what they make is no larger than what is stored:
``bytearray(2**31)`` is ten bytes in a pickle and two gigabytes in memory, and torch's own restricted reader allows it.
"""

from __future__ import annotations

import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Any, BinaryIO

import torch

from ..text import quoted
from .archives import LARGER
from .layouts import FileError

MAX_PICKLE = 2**23
MAX_STEPS = 300_000
MAX_WEIGHT = 5_000_000
MAX_DEPTH = 100
"""Bytes of a pickle, its opcodes, values in it counted as often as they are named, and levels of nesting. The largest
released file, an autoencoder with its average and optimiser, 4000 tensors, has 120 000 opcodes."""
CLAIMS = "its tensors claim more data than the file holds; it is damaged or forged, download it again"
_BYTES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "ComplexDouble": 16,
    "ComplexFloat": 8,
    "QInt8": 1,
    "QUInt8": 1,
    "QInt32": 4,
    "QUInt4x2": 1,
    "QUInt2x4": 1,
    "Untyped": 1,
}
_STORAGE = re.compile(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage")
_STRIDED = {f"torch._utils._rebuild_{kind}" for kind in ("tensor", "tensor_v2", "tensor_v3", "qtensor")}
_TENSORS = (
    _STRIDED
    | {
        f"torch._utils._rebuild_{kind}"
        for kind in (
            "parameter",
            "parameter_with_state",
            "sparse_tensor",
            "meta_tensor_no_storage",
            "nested_tensor",
            "device_tensor_from_cpu_tensor",
            "wrapper_subclass",
        )
    }
    | {"torch.nn.parameter.Parameter"}
)
_PLAIN = {
    "collections.OrderedDict",
    "collections.Counter",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "builtins.set",
    "builtins.complex",
}
_TYPED = "torch._tensor._rebuild_from_type_v2"
_ENCODE = "_codecs.encode"
_BYTEARRAY = "builtins.bytearray"
_CALLABLE = re.compile(
    r"torch\.(?:\w+\.)*\w*(?:Tensor|Storage)|torch\._utils\._rebuild_\w+"
)  # what torch's reader would call besides
_SYSTEM = {"os", "sys", "posix", "nt"}


class Node:
    """A description of a value.

    Attributes:
        kind: tuple, list, dict, set, name, storage, tensor, bytes or object.
        items: of a tuple its values; of a name its text; of a storage how many bytes it has and how many one entry.
        weight: values in it, each counted as often as it is named.
        depth: levels of nesting.
    """

    __slots__ = ("depth", "items", "kind", "weight")

    def __init__(self, kind: str, items: Any = None, parts: tuple[Any, ...] = ()):
        self.kind = kind
        self.items = items
        self.weight = 1
        self.depth = 0
        self.take(parts)

    def take(self, parts: Any) -> None:
        """Count values that are put into it."""
        for part in parts:
            self.weight += part.weight if isinstance(part, Node) else 1
            if isinstance(part, Node) and part.depth >= self.depth:
                self.depth = part.depth + 1
        if self.weight > MAX_WEIGHT or self.depth > MAX_DEPTH:
            raise FileError(LARGER)


class Claims:
    """What the pickles of one file would make.

    Args:
        objects: other objects will be left out instead of made, so that their names may be called.
    """

    def __init__(self, objects: bool):
        self.objects = objects
        self.stored = {}
        self._steps = 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def follow(self, file: BinaryIO) -> Any:
        """Describe what the pickle at the place of ``file`` would make, and stop behind it.

        Raises:
            FileError: code, objects, or more than is stored.
            ValueError: a damaged pickle.
        """
        self._stack = []
        self._marks = []
        self._memo = {}
        for opcode, arg, _ in pickletools.genops(file):
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise FileError(LARGER)
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, arg)
        raise ValueError("it ends too early")

    def _step(self, name: str, arg: Any) -> None:
        stack = self._stack
        match name:
            case "NONE" | "NEWFALSE" | "NEWTRUE":
                stack.append({"NONE": None, "NEWFALSE": False, "NEWTRUE": True}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(arg)
            case "SHORT_BINSTRING":
                stack.append(Node("bytes", arg))
            case "PROTO":
                pass
            case "MARK":
                self._marks.append(stack)
                self._stack = []
            case "EMPTY_TUPLE" | "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = self._marked() if name == "TUPLE" else [self._stack.pop() for _ in range(_WIDTH[name])][::-1]
                self._stack.append(Node("tuple", tuple(items), tuple(items)))
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET":
                stack.append(Node(name[6:].lower()))
            case "APPEND" | "APPENDS":
                items = self._marked() if name == "APPENDS" else [stack.pop()]
                self._top("list").take(items)
            case "SETITEM" | "SETITEMS":
                items = self._marked() if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
                if len(items) % 2:
                    raise ValueError("a key without a value")
                self._top("dict").take(items)
            case "BINPUT" | "LONG_BINPUT":
                self._memo[arg] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[arg])
            case "GLOBAL":
                stack.append(Node("name", self._named(arg)))
            case "REDUCE" | "NEWOBJ":
                args = stack.pop()
                function = stack.pop()
                stack.append(self._called(function, args))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], Node) or stack[-1].kind not in ("dict", "object"):
                    raise FileError(
                        "it changes a tensor after it was made, which torch.save never writes; get the original"
                    )
                stack[-1].take((state,))
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case _:
                raise FileError(_run(f"opcode {name}"))

    def _marked(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _top(self, kind: str) -> Node:
        top = self._stack[-1]
        if not isinstance(top, Node) or top.kind != kind:
            raise ValueError(f"not a {kind} where there must be one")
        return top

    def _named(self, arg: str) -> str:
        module, _, name = arg.partition(" ")
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if module in _SYSTEM:
            raise FileError(_run(f"{module}.{name}"))
        return f"{module}.{name}"

    def _called(self, function: Any, args: Any) -> Node:
        if (
            not isinstance(function, Node)
            or function.kind != "name"
            or not isinstance(args, Node)
            or args.kind != "tuple"
        ):
            if self.objects and isinstance(function, Node) and function.kind == "object":
                return Node("object", None, (args,))
            raise FileError(_run("a call"))
        name = function.items
        values = args.items
        if name in _STRIDED:
            _check_strided(name, values)
            return Node("tensor", None, (args,))
        if name in _TENSORS:
            return Node("tensor", None, (args,))
        if name in _PLAIN:
            kind = "dict" if name.startswith("collections") else "tuple" if name == "torch.Size" else "object"
            inner = values[0].items if kind == "tuple" and values and isinstance(values[0], Node) else None
            return Node(kind, inner, (args,))
        if name == _TYPED and len(values) == 4:
            return self._called(values[0], values[2])
        if (
            name == _ENCODE
            and len(values) == 2
            and isinstance(values[0], str)
            and str(values[1]).lower() in ("latin1", "latin-1", "utf-8")
        ):
            return Node("bytes", None, (args,))
        if (
            name == _BYTEARRAY
            and values
            and (isinstance(values[0], str) or (isinstance(values[0], Node) and values[0].kind == "bytes"))
        ):
            return Node("bytes", None, (args,))
        if self.objects and name not in (_TYPED, _ENCODE, _BYTEARRAY) and not _CALLABLE.fullmatch(name):
            return Node("object" if not name.lower().endswith("dict") else "dict", None, (args,))
        raise FileError(_run(name))

    def _storage(self, pid: Any) -> Node:
        values: tuple[Any, ...] = pid.items if isinstance(pid, Node) and pid.kind == "tuple" else ()
        if len(values) not in (5, 6) or _text(values[0]) != "storage":
            raise FileError("it names something besides the data of tensors; save the state_dict alone")
        kind, key, _, count, *view = values[1:]
        found = _STORAGE.fullmatch(kind.items) if isinstance(kind, Node) and kind.kind == "name" else None
        if found is None or found[1] not in _BYTES or type(count) is not int or count < 0:
            raise FileError("it holds data of a kind that is not known here; save the state_dict alone")
        each = _BYTES[found[1]]
        name = _text(key)
        if self.stored.setdefault(name, count * each) != count * each:
            raise FileError(CLAIMS)
        if view and view[0] is not None:
            _, offset, size = view[0].items
            if not 0 <= offset <= offset + size <= count:
                raise FileError(CLAIMS)
            count = size
        return Node("storage", (count * each, each))


_WIDTH = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _text(value: Any) -> str:
    return str(value.items if isinstance(value, Node) else value)


def _run(what: str) -> str:
    return (
        f"it holds code or objects besides tensors ({quoted(what)[1:-1]}), which is never run; get a .safetensors file,"
        " or save the state_dict alone"
    )


def _check_strided(name: str, values: tuple[Any, ...]) -> None:
    """Refuse a tensor with more entries than its storage has, or that reaches behind its end."""
    storage, offset, shape, stride = values[:4]
    if not isinstance(storage, Node) or storage.kind != "storage":
        raise ValueError("a tensor without data")
    sizes, steps = (v.items if isinstance(v, Node) and v.kind == "tuple" else None for v in (shape, stride))
    if (
        sizes is None
        or steps is None
        or len(sizes) != len(steps)
        or not all(type(n) is int and n >= 0 for n in (offset, *sizes, *steps))
    ):
        raise ValueError("a tensor with a damaged shape")
    total, each = storage.items
    if name.endswith("v3"):  # newer types, whose storage counts bytes
        kind = values[6].items if len(values) > 6 and isinstance(values[6], Node) and values[6].kind == "name" else ""
        dtype: Any = getattr(torch, kind.removeprefix("torch."), None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError("a tensor without a type")
        each = dtype.itemsize
    count = 1
    last = offset
    for size, step in zip(sizes, steps, strict=True):
        count = count * size
        last = last + max(size - 1, 0) * step
    if count and max(count, last + 1) * each > total:
        raise FileError(CLAIMS)
