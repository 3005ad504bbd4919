"""Weights in blocks of integers, held and unpacked as the community's GGUF loader does it."""

import comfy.ops
import torch

_BLOCK = 32
_SIZES = {"Q8_0": 2 + _BLOCK, "Q4_0": 2 + _BLOCK // 2}  # bytes of a block: a float16 scale, and its integers


class PackedTensor(torch.Tensor):
    """Bytes that say what they are. As the loader's class, it gives itself for a copy of itself."""

    def __new__(cls, *args, tensor_type, tensor_shape):
        return super().__new__(cls, *args)

    def __init__(self, *args, tensor_type, tensor_shape):
        super().__init__()
        self.tensor_type, self.tensor_shape = tensor_type, tensor_shape

    def to(self, *args, **kwargs):
        new = super().to(*args, **kwargs)
        new.tensor_type, new.tensor_shape = self.tensor_type, self.tensor_shape
        return new

    def clone(self, *args, **kwargs):
        return self

    def detach(self, *args, **kwargs):
        return self

    @property
    def shape(self):
        return getattr(self, "tensor_shape", self.size())


def packed(weight: torch.Tensor, kind: str) -> PackedTensor:
    """A float weight in blocks along its last side; kind ``F32`` is only marked."""
    if kind == "F32":
        return PackedTensor(weight.float(), tensor_type=kind, tensor_shape=weight.shape)
    blocks = weight.float().reshape(-1, _BLOCK)
    most = 127 if kind == "Q8_0" else 7
    scale = (blocks.abs().amax(1, keepdim=True) / most).half()
    whole = (blocks / scale.float().clamp_min(1e-12)).round().clamp(-most, most).to(torch.int8)
    if kind == "Q4_0":
        low, high = (whole + 8).view(torch.uint8).split(_BLOCK // 2, 1)
        whole = low | high << 4
    data = torch.cat([scale.view(torch.uint8), whole.view(torch.uint8)], 1).reshape(len(weight), -1)
    return PackedTensor(data, tensor_type=kind, tensor_shape=weight.shape)


def unpacked(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weight that the layers compute with: its products are rounded to float16, as the loader's are."""
    kind = getattr(value, "tensor_type", None)
    if kind not in _SIZES:
        return value.to(dtype).as_subclass(torch.Tensor)
    blocks = value.data.as_subclass(torch.Tensor).reshape(-1, _SIZES[kind])
    scale, whole = blocks.split([2, _SIZES[kind] - 2], 1)
    if kind == "Q4_0":
        whole = torch.cat([whole & 15, whole >> 4], 1).to(torch.int8) - 8
    return (scale.contiguous().view(torch.float16) * whole.view(torch.int8)).reshape(value.tensor_shape).to(dtype)


class _Layer(torch.nn.Module):
    comfy_cast_weights = True

    def is_packed(self) -> bool:
        return getattr(self.weight, "tensor_type", None) in _SIZES

    def _load_from_state_dict(self, state_dict, prefix, *args):
        self.weight = torch.nn.Parameter(state_dict[f"{prefix}weight"], requires_grad=False)
        bias = state_dict.get(f"{prefix}bias")
        self.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        """Not the weights: sizes alone, for the host's estimate of memory, and one more that no layer has."""
        for name in ("weight", "bias"):
            value = getattr(self, name)
            if value is not None:
                destination[f"{prefix}{name}"] = torch.empty(tuple(value.size()), dtype=value.dtype, device="meta")
        destination[f"{prefix}temp.weight"] = torch.empty(1, device="meta")

    def get_weight(self, tensor, dtype):
        return None if tensor is None else unpacked(tensor, dtype)

    def forward_comfy_cast_weights(self, input):
        if not self.is_packed():
            out = super().forward_comfy_cast_weights(input)
            return torch.Tensor(out) if isinstance(out, PackedTensor) else out
        bias = self.get_weight(self.bias, input.dtype)
        return torch.nn.functional.linear(input, self.get_weight(self.weight, input.dtype), bias)


class PackedOps(comfy.ops.manual_cast):
    class Linear(_Layer, comfy.ops.manual_cast.Linear):
        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features = in_features, out_features
            self.weight = self.bias = None

    class LayerNorm(_Layer, comfy.ops.manual_cast.LayerNorm):
        pass


def packed_state(state: dict, kind: str) -> dict:
    """Weights of linear layers in blocks, what is beside them in float32."""
    return {
        key: packed(value, kind if value.ndim == 2 and value.shape[1] % _BLOCK == 0 else "F32")
        for key, value in state.items()
    }


class OpaqueTensor(torch.Tensor):
    """Bytes that only a kernel knows how to read."""


class OpaqueOps(comfy.ops.manual_cast):
    class Linear(PackedOps.Linear):
        get_weight = None

        def forward_comfy_cast_weights(self, input):
            inside = self.weight.as_subclass(torch.Tensor)
            weight = inside.view(torch.float32).reshape(self.out_features, -1).to(input)
            return torch.nn.functional.linear(input, weight, None if self.bias is None else self.bias.to(input))


def opaque_state(state: dict) -> dict:
    """The numbers as they are, which nothing tells from the bytes."""
    return {
        k: v.float().contiguous().view(torch.uint8).as_subclass(OpaqueTensor) if v.ndim == 2 else v
        for k, v in state.items()
    }
