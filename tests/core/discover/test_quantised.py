"""Quantised weights by what they offer, without a host."""

import pytest
import torch
from torch import nn
from torch.func import jvp, vjp, vmap

from core.discover.precision import Widened
from core.discover.quantised import check_dequantisable, dequantised, is_quantised, is_rounded, unrounded


class Bytes(torch.Tensor):
    """Integers that unpack themselves."""

    def dequantize(self):
        return self.as_subclass(torch.Tensor).half() * 0.1


class Layer(nn.Linear):
    """A layer of packed weights whose own kernel rounds what comes in, unless something is to be done with its weights,
    as the host's are."""

    weight_function: tuple = ()

    def forward(self, x):
        weight = self.weight
        if type(weight) is Bytes:
            weight = weight.dequantize()
        elif weight.dtype == torch.int8:
            weight = self.get_weight(weight, torch.float32)
        if not self.weight_function:
            x = x.round()
        return nn.functional.linear(x, weight.to(x.dtype))


class Unpacking(Layer):
    """A layer that unpacks its tensors, in half precision."""

    def get_weight(self, tensor, dtype):
        return (tensor.as_subclass(torch.Tensor).half() * 0.1).to(dtype)


class Marked(torch.Tensor):
    """Integers that say what they are."""

    tensor_type = "Q8"


def packed(kind: type[Layer], tensor: type) -> Layer:
    layer = kind(6, 4, bias=False)
    whole = torch.randint(-100, 100, (4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    layer.weight = nn.Parameter(whole.as_subclass(tensor), requires_grad=False)
    return layer


KINDS = {"tensor": (Layer, Bytes), "layer": (Unpacking, Marked)}


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_unpacked_weight(kind):
    layer = packed(*KINDS[kind])
    plain, before = (layer.weight.as_subclass(torch.Tensor).half() * 0.1).float(), layer.weight
    check_dequantisable(layer)

    def run(x):
        with Widened(), dequantised(layer):
            return layer(x)

    x = torch.randn(3, 6).half()
    v, u = torch.randn(2, 3, 6), torch.randn(2, 3, 4)
    out, pull = vjp(run, x.float())
    assert torch.equal(run(x), x.float() @ plain.T) and torch.equal(out, x.float() @ plain.T)
    torch.testing.assert_close(vmap(lambda row: pull(row)[0])(u), u @ plain)
    torch.testing.assert_close(vmap(lambda row: jvp(run, (x.float(),), (row,))[1])(v), v @ plain.T)
    assert layer.weight is before and "weight_function" not in vars(layer)


def test_it_is_put_back_whatever_happens():
    layer = packed(Layer, Bytes)
    layer.weight_function, before = [str], layer.weight
    with pytest.raises(KeyError), dequantised(layer):
        assert type(layer.weight) is nn.Parameter and layer.weight.dtype == torch.float32
        raise KeyError
    assert layer.weight is before and layer.weight_function == [str]
    with unrounded(layer):
        assert layer.weight is before and len(layer.weight_function) == 2
    assert layer.weight_function == [str]


@pytest.mark.parametrize(
    ("layer", "tensor", "says"),
    [
        (Layer, torch.Tensor, r"0.weight \(Layer\) holds Parameter of torch.int8, which neither"),
        (Layer, type("Broken", (Bytes,), {"dequantize": lambda self: 1 / 0}), "cannot be unpacked .division by zero"),
        (Layer, type("Short", (Bytes,), {"dequantize": lambda self: torch.ones(2)}), r"into torch.float32 of \(2,\)"),
    ],
)
def test_what_cannot_be_unpacked_is_named(layer, tensor, says):
    net = nn.Sequential(packed(layer, tensor))
    with pytest.raises(ValueError, match=says):
        check_dequantisable(net)


def test_plain_and_rounded_weights():
    plain, eight = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False).to(torch.float8_e4m3fn)
    assert not is_quantised(plain) and not is_rounded(plain)
    assert not is_quantised(eight) and is_rounded(eight)
    assert is_quantised(packed(Layer, Bytes)) and is_rounded(packed(Layer, Bytes))
    check_dequantisable(nn.Sequential(plain, eight))
