"""Names for what a direction does: the known factors that its two ends move most (no paper: the factors are those of the face world)."""

from __future__ import annotations

from torch import Tensor

from ..faces.regressor import Regressor, factor_change

LEAST = 0.1
"""Share of a factor's range below which a change is not worth a name."""


def names(regressor: Regressor, plain: Tensor, edited: Tensor, most: int = 2) -> list[str]:
    """What each edited picture shows against the plain one, such as ``smile +0.42, eye_open -0.13``.

    Args:
        regressor: of the face world.
        plain: `[3 64 64]` in 0..1.
        edited: `[n 3 64 64]` in 0..1.
        most: factors named at most.

    Returns:
        One text a picture, the strongest factor first; ``no known factor`` where no factor moves by a tenth of its range.
    """
    change = factor_change(regressor, plain.expand_as(edited), edited)
    texts = []
    for i in range(len(edited)):
        ranked = sorted(((float(v[i]), name) for name, v in change.items()), key=lambda pair: -abs(pair[0]))
        texts.append(", ".join(f"{name} {value:+.2f}" for value, name in ranked[:most] if abs(value) >= LEAST) or "no known factor")
    return texts
