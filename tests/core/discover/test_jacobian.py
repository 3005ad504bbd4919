"""The Jacobian operator against the dense Jacobian of the same decoder, and in the circumstances it meets in a host."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import svds
from torch.func import jacrev

from core.denoiser import Bottleneck, NotFinite
from core.discover.jacobian import DecoderJacobian
from core.discover.precision import Widened
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.schedule import Schedule


def tiny(device, dtype=torch.float64) -> VPDenoiser:
    torch.manual_seed(1)
    net = DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True), patch=2)).to(device, dtype).eval().requires_grad_(False)
    return VPDenoiser(net, Schedule(), "v", "0" * 12)


def state(device, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device, dtype)


def split(device, dtype=torch.float64, layer="middle") -> Bottleneck:
    x = state(device, dtype)
    return tiny(device, dtype).split(x, x.new_ones(1), layer)


def rows(n: int, width: int, device, seed=0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device)


@pytest.fixture(scope="module", params=["middle", "up.1"])
def pair(request, device):
    bottleneck = split(device, layer=request.param)
    dense = jacrev(bottleneck.decode)(bottleneck.h).reshape(768, -1)
    return DecoderJacobian(bottleneck), dense


def test_products_are_those_of_the_dense_jacobian(pair, device):
    J, dense = pair
    assert J.shape == dense.shape
    v, u = rows(5, J.shape[1], device), rows(4, J.shape[0], device, 1)
    torch.testing.assert_close(J.jvp(v), v @ dense.T, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(J.vjp(u), u @ dense, rtol=1e-10, atol=1e-10)


def test_columns_and_single_vectors_with_the_operators(pair, device):
    J, dense = pair
    v, u = rows(3, J.shape[1], device).T, rows(2, J.shape[0], device).T
    torch.testing.assert_close(J @ v, dense @ v, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(J @ v[:, 0], dense @ v[:, 0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(J.T @ u, dense.T @ u, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(J.T @ u[:, 1], dense.T @ u[:, 1], rtol=1e-10, atol=1e-10)
    assert J.T.shape == J.shape[::-1]


def test_forward_and_reverse_are_adjoint(pair, device):
    J, _ = pair
    v, u = rows(4, J.shape[1], device, 3), rows(4, J.shape[0], device, 4)
    torch.testing.assert_close((J.jvp(v) * u).sum(1), (v * J.vjp(u)).sum(1), rtol=1e-11, atol=1e-11)
    assert J.check() < 1e-12


@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_chunks_do_not_change_the_result_and_are_counted(device, chunk):
    bottleneck = split(device)
    J, whole = DecoderJacobian(bottleneck, chunk), DecoderJacobian(bottleneck, 5)
    v, u = rows(5, J.shape[1], device), rows(5, J.shape[0], device)
    torch.testing.assert_close(J.jvp(v), whole.jvp(v), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(J.vjp(u), whole.vjp(u), rtol=1e-12, atol=1e-12)
    assert (J.jvps, J.vjps, J.products, J.passes) == (5, 5, 10, 2 * -(-5 // chunk))


def test_no_rows_no_work(pair):
    J, _ = pair
    before = J.passes
    assert J.jvp(torch.zeros(0, J.shape[1])).shape == (0, J.shape[0])
    assert J.passes == before


def test_scipy_finds_the_same_singular_values(pair):
    J, dense = pair
    found = svds(J.to_scipy(), 4, return_singular_vectors=False, random_state=0)
    np.testing.assert_allclose(np.sort(found)[::-1], torch.linalg.svdvals(dense)[:4].cpu().numpy(), rtol=1e-8)


def test_inference_mode_even_for_the_weights(device):
    normal = DecoderJacobian(split(device, torch.float32))
    v, u = rows(3, normal.shape[1], device), rows(3, normal.shape[0], device)
    expected = normal.jvp(v), normal.vjp(u)
    with torch.inference_mode():
        bottleneck = split(device, torch.float32)
        assert bottleneck.h.is_inference()
        J = DecoderJacobian(bottleneck)
        got = J.jvp(v), J.vjp(u)
    assert float(got[0].norm()) > 0
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_trainable_weights_leave_no_graph_on_the_results(device):
    bottleneck = split(device, torch.float32)
    model = tiny(device, torch.float32)
    model.net.requires_grad_(True)
    x = state(device, torch.float32)
    J = DecoderJacobian(model.split(x, x.new_ones(1)))
    v = rows(2, J.shape[1], device)
    got = J.jvp(v), J.vjp(J.jvp(v))
    assert not got[0].requires_grad and not got[1].requires_grad
    torch.testing.assert_close(got[0], DecoderJacobian(bottleneck).jvp(v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks_are_differentiated_in_float32(device, dtype):
    """Against a float32 network with the same rounded weights, which is handed the same rounded skips and step
    embedding."""
    half, x = tiny(device, dtype), state(device, dtype)
    skips, embeddings = {}, []

    def record(layer, h, skip):
        skips[layer] = skip
        return h, skip

    half.net.temb.dense[1].register_forward_hook(lambda module, inputs, out: embeddings.append(out))
    half.net.split(x / x.new_tensor(2).sqrt(), half.schedule.t(x.new_ones(1)).round(), tap=record)[1](
        split(device, dtype).h
    )
    wide = tiny(device, torch.float32)
    wide.net.load_state_dict({name: value.float() for name, value in half.net.state_dict().items()})
    wide.net.temb.dense[1].register_forward_hook(lambda module, inputs, out: embeddings[0].float())
    x32, t = x.float(), wide.schedule.t(x.new_ones(1)).round()
    decode_net = wide.net.split(x32, t, tap=lambda layer, h, skip: (h, None if skip is None else skips[layer].float()))[
        1
    ]

    J = DecoderJacobian(half.split(x, x.new_ones(1)))
    exact = DecoderJacobian(Bottleneck(J.h0, lambda h: x32 / 2 - decode_net(h) / 2**0.5, "middle"))
    v, u = rows(2, J.shape[1], device), rows(2, J.shape[0], device)
    assert J.y0.dtype == torch.float32
    for got, expected in ((J.jvp(v), exact.jvp(v)), (J.vjp(u), exact.vjp(u))):
        assert got.dtype == torch.float32
        assert (
            float((got - expected).norm() / expected.norm()) < 1e-5
        )  # products in half precision would be off by 1e-3 to 1e-2


def test_half_precision_is_exactly_float32_arithmetic_on_the_rounded_numbers(device):
    weight = torch.nn.Parameter(rows(6, 4, device).bfloat16(), requires_grad=False)
    skip = rows(1, 6, device).bfloat16()
    buffer = torch.zeros(6, dtype=torch.bfloat16, device=device)

    def decode(h):
        mixed = torch.cat([h @ weight.T, skip.expand(len(h), 6)], 1)
        return torch.tanh(mixed.to(weight.dtype) + torch.stack([buffer, buffer]).reshape(-1)) * mixed

    J = DecoderJacobian(Bottleneck(rows(1, 4, device).bfloat16(), decode, "middle"))
    w, s, h = weight.float(), skip.float(), J.h0

    def in_full(h):
        mixed = torch.cat([h @ w.T, s], 1)
        return torch.tanh(mixed) * mixed

    dense = jacrev(in_full)(h).reshape(12, 4)
    torch.testing.assert_close(J.jvp(torch.eye(4, device=device)).T, dense, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(J.vjp(torch.eye(12, device=device)), dense, rtol=1e-5, atol=1e-5)


def failing_above(bottleneck: Bottleneck, batch: int, error: Exception, seen: list[int]) -> Bottleneck:
    """A decoder that runs out of memory for more than ``batch`` samples, as seen through vmap."""

    class Limited(torch.autograd.Function):
        generate_vmap_rule = False

        @staticmethod
        def forward(h):
            return h.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return Counted.apply(grad)

        @staticmethod
        def jvp(ctx, tangent):
            return Counted.apply(tangent)

        @staticmethod
        def vmap(info, in_dims, h):
            return h.clone(), in_dims[0]

    class Counted(torch.autograd.Function):
        generate_vmap_rule = False

        @staticmethod
        def forward(h):
            return h.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def vmap(info, in_dims, h):
            seen.append(info.batch_size)
            if info.batch_size > batch:
                raise error
            return h.clone(), in_dims[0]

    return replace(bottleneck, decode=lambda h: bottleneck.decode(Limited.apply(h)))


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("direction", ["jvp", "vjp"])
def test_out_of_memory_halves_the_chunk(device, direction, error):
    bottleneck, seen = split(device), []
    J, plain = DecoderJacobian(failing_above(bottleneck, 4, error, seen), 8), DecoderJacobian(bottleneck)
    v = rows(8, J.shape[direction == "jvp"], device)
    torch.testing.assert_close(getattr(J, direction)(v), getattr(plain, direction)(v), rtol=1e-12, atol=1e-12)
    assert seen == [8, 4, 4] and J.chunk == 4
    assert (J.products, J.passes) == (8, 2)


@pytest.mark.parametrize("error", ERRORS)
def test_out_of_memory_halves_as_often_as_needed_and_is_an_error_with_a_single_vector(device, error):
    bottleneck, seen = split(device), []
    J, plain = DecoderJacobian(failing_above(bottleneck, 1, error, seen), 16), DecoderJacobian(bottleneck)
    v = rows(6, J.shape[1], device)
    torch.testing.assert_close(J.jvp(v), plain.jvp(v), rtol=1e-12, atol=1e-12)
    # The block is 6 although the chunk could be 16: its half is what counts.
    assert seen == [6, 3, 1, 1, 1, 1, 1, 1] and J.chunk == 1
    J = DecoderJacobian(failing_above(bottleneck, 0, error, seen), 4)
    with pytest.raises(RuntimeError, match=r"out of memory with 1 Jacobian vector .*smaller picture"):
        J.jvp(v)


def test_other_errors_pass_through_and_missing_derivatives_are_explained(device):
    J = DecoderJacobian(failing_above(split(device), 1, RuntimeError("boom"), []), 2)
    with pytest.raises(RuntimeError, match=r"^boom$"):
        J.jvp(rows(2, J.shape[1], device))
    J = DecoderJacobian(failing_above(split(device), 1, NotImplementedError("derivative for aten::flash"), []), 2)
    with pytest.raises(RuntimeError, match=r"no derivative.*aten::flash.*unquantised"):
        J.jvp(rows(2, J.shape[1], device))


def test_callback_counts_passes_and_may_cancel(device):
    seen: list[dict] = []
    J = DecoderJacobian(split(device), 2, seen.append)
    J.planned = 4
    J.jvp(rows(5, J.shape[1], device))
    assert [(s["i"], s["n"], s["products"]) for s in seen] == [(1, 4, 5), (2, 4, 5), (3, 4, 5)]

    def cancel(progress):
        raise InterruptedError

    J = DecoderJacobian(split(device), 2, cancel)
    with pytest.raises(InterruptedError):
        J.jvp(rows(5, J.shape[1], device))
    assert J.passes == 1


def test_check_refuses_a_jacobian_that_cannot_be_used(device):
    bottleneck = split(device)
    constant = DecoderJacobian(replace(bottleneck, decode=lambda h: bottleneck.decode(bottleneck.h) + 0 * h.sum()))
    with pytest.raises(RuntimeError, match=r"does not depend on h.*bypass"):
        constant.check()
    with pytest.raises(NotFinite, match=r"network gives NaN.*fp32"):
        DecoderJacobian(replace(bottleneck, decode=lambda h: bottleneck.decode(h) * float("nan")))
    steep = DecoderJacobian(
        replace(bottleneck, decode=lambda h: bottleneck.decode(h) + (h - bottleneck.h).abs().sqrt().sum())
    )
    with pytest.raises(NotFinite, match=r"Jacobian is not finite.*fp32"):
        steep.check()

    class Wrong(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(h):
            return h * 2

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return grad * 3

        @staticmethod
        def jvp(ctx, tangent):
            return tangent * 2

    with pytest.raises(RuntimeError, match=r"differ by 50.0%"):
        DecoderJacobian(replace(bottleneck, decode=lambda h: bottleneck.decode(Wrong.apply(h)))).check()


def test_bad_input_is_named(device):
    bottleneck = split(device)
    J = DecoderJacobian(bottleneck)
    with pytest.raises(ValueError, match=r"rows of 1024 numbers"):
        J.jvp(torch.zeros(3, 7))
    with pytest.raises(ValueError, match=r"one sample, got a batch of 2"):
        DecoderJacobian(replace(bottleneck, h=bottleneck.h.repeat(2, 1, 1, 1)))
    with pytest.raises(ValueError, match=r"chunk must be at least 1"):
        DecoderJacobian(bottleneck, 0)
    with pytest.raises(ValueError, match=r"floating point"):
        DecoderJacobian(replace(bottleneck, h=bottleneck.h.to(torch.int8)))


def test_widening_keeps_what_is_written_in_place():
    buffer, source = torch.zeros(3, dtype=torch.float16), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float16)
    with Widened():
        buffer.copy_(source)
        buffer[1:].mul_(2)
        buffer[0] = 7.0
        assert buffer.dtype == torch.float16 and (buffer @ buffer).dtype == torch.float32
    assert buffer.tolist() == [7.0, 4.0, 6.0]
