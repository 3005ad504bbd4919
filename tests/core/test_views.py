"""Random views: the same for a picture and its edit, blind to fine patterns, open to what people see."""

import torch

from core.train.views import View


def view(seed=0, side=64):
    return View(torch.Size([2, 3, side, side]), torch.Generator().manual_seed(seed))


def test_a_view_is_one_linear_map_and_some_noise(device):
    a, b = (torch.rand(2, 3, 64, 64, device=device) * 2 - 1 for _ in range(2))
    look = view()
    assert look(a).shape == a.shape
    torch.testing.assert_close(look(a) - look(b), look(a - b) - look(torch.zeros_like(a)))
    assert torch.equal(look(a), view()(a)) and not torch.equal(look(a), view(1)(a))


def test_fine_patterns_vanish_and_shapes_stay(device):
    rows = torch.arange(64, device=device)
    checks = ((rows[:, None] + rows) % 2 * 2.0 - 1).expand(1, 3, 64, 64)
    shape = torch.zeros(1, 3, 64, 64, device=device)
    shape[..., 16:48, 16:48] = 1
    look, none = view(), torch.zeros(1, 3, 64, 64, device=device)
    assert float((look(checks) - look(none))[..., 8:-8, 8:-8].abs().max()) < 0.02
    kept = (look(shape) - look(none)).sum() / shape.sum()
    assert abs(float(kept) - 1) < 0.01


def test_gradients_reach_the_picture(device):
    x = torch.zeros(1, 3, 32, 48, device=device, requires_grad=True)
    View(x.shape, torch.Generator().manual_seed(3))(x).sum().backward()
    assert float(x.grad.min()) >= 0 and float(x.grad[..., 16, 24].min()) > 0.9
