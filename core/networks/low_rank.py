"""Low-rank differences of linear layers, added beside a frozen network, and blends of two.

LoRA, Hu et al. 2021, arXiv 2106.09685, eq. 3.

A branch sees what a layer sees, and its answer is added to the layer's. So a gradient reaches it whatever the host does
with the frozen weight, and every row of a batch may have a blend of its own (DiffMorpher, Zhang et al. 2024, arXiv
2312.07409, LoRA interpolation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]
"""``(up [o r], down [r i])``; the difference of the weight is ``up @ down``."""
Branch = Callable[[Tensor], Tensor]
DELTA = "delta"
FACTORS = "factors"
MODES = (DELTA, FACTORS)


def _added(branch: Branch) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    return lambda _, args, out: out + branch(args[0]).to(out.dtype)


@contextmanager
def beside(net: nn.Module, branches: Mapping[str, Branch]) -> Iterator[None]:
    """Make each named layer of ``net`` give ``layer(x) + branch(x)`` inside; after, itself again.

    Raises:
        ValueError: there is no such layer.
    """
    handles = []
    try:
        for name, branch in branches.items():
            try:
                layer = net.get_submodule(name)
            except AttributeError:
                raise ValueError(
                    f"this network has no layer {ascii(name)[:80]}; connect the model that the weights were trained on"
                ) from None
            handles.append(layer.register_forward_hook(_added(branch)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def blended(
    first: Mapping[str, Pair], second: Mapping[str, Pair], alphas: Sequence[float], mode: str = DELTA
) -> dict[str, Branch]:
    """Blend branches for a batch whose rows lie between two sets of differences.

    Args:
        first: of alpha 0, by the name of the layer; what only one of the two has counts as 0 in the other.
        second: of alpha 1.
        alphas: of the rows; a batch may hold them several times over (guidance).
        mode: ``delta`` adds ``(1-a) up0 down0 + a up1 down1``, the paper's sum; ``factors`` interpolates up and down
            each by itself as the released code does, which also gives ``a (1-a) (up0 down1 + up1 down0)``.

    Raises:
        ValueError: an unknown mode, or ranks that differ where factors are interpolated.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")

    def branch(one: Pair | None, two: Pair | None) -> Branch:
        if mode == FACTORS and one is not None and two is not None and one[0].shape != two[0].shape:
            raise ValueError(
                f"factors can only be interpolated between LoRAs of one rank, got {one[0].shape[1]} and"
                f" {two[0].shape[1]}; use mode delta"
            )

        def run(x: Tensor) -> Tensor:
            if len(x) % len(alphas):
                raise RuntimeError(
                    f"a batch of {len(x)} rows does not hold {len(alphas)} frames; bypass nodes upstream that split"
                    " batches"
                )
            shares = x.new_tensor(list(alphas)).repeat(len(x) // len(alphas))
            a = shares.reshape(-1, *(1,) * (x.dim() - 1))
            sides = [(pair, share) for pair, share in ((one, 1 - a), (two, a)) if pair is not None]
            projected = [x @ pair[1].to(x).T for pair, _ in sides]
            if mode == FACTORS:
                mean = torch.stack([share * s for s, (_, share) in zip(projected, sides, strict=True)]).sum(0)
                projected = [mean for _ in sides]
            parts = [share * (s @ pair[0].to(x).T) for s, (pair, share) in zip(projected, sides, strict=True)]
            return parts[0] if len(parts) == 1 else parts[0] + parts[1]

        return run

    return {name: branch(first.get(name), second.get(name)) for name in {**first, **second}}


class LowRankLayers(nn.Module):
    """Low-rank differences to be trained: up starts at 0, down at normal numbers of deviation 1 / rank.

    Args:
        layers: linear layers by name.
        rank: of every difference.
        seed: of the start; the same for the same layers, whatever they are trained on afterwards.

    Raises:
        ValueError: no layer, or a rank below 1.
    """

    def __init__(self, layers: Mapping[str, nn.Linear], rank: int = 16, seed: int = 0):
        super().__init__()
        if not layers or rank < 1:
            raise ValueError(
                f"a LoRA needs at least one linear layer and a rank of 1 or more, got {len(layers)} layers and rank"
                f" {rank}"
            )
        g = torch.Generator().manual_seed(seed)
        self.names = tuple(layers)
        shapes = [(layer.out_features, layer.in_features) for layer in layers.values()]
        self.down = nn.ParameterList([torch.randn(rank, i, generator=g) / rank for _, i in shapes])
        self.up = nn.ParameterList([torch.zeros(o, rank) for o, _ in shapes])

    def pairs(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Pair]:
        """Read the differences, now or in a ``state_dict``, detached and on the CPU."""
        state = self.state_dict() if state is None else state
        return {
            name: (state[f"up.{i}"].detach().cpu().clone(), state[f"down.{i}"].detach().cpu().clone())
            for i, name in enumerate(self.names)
        }

    def branches(self) -> dict[str, Branch]:
        """Make branches for :func:`beside`; they follow the training."""

        def branch(up: Tensor, down: Tensor) -> Branch:
            return lambda x: x.to(down.dtype) @ down.T @ up.T

        return {name: branch(up, down) for name, up, down in zip(self.names, self.up, self.down, strict=True)}
