"""Dials of a way back that do nothing, told to people (no paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .steer import noise_shares


def idle_dials(sigmas: Sequence[float], changed: Sequence[bool], dials: Mapping[str, float]) -> list[str]:
    """Tell of each dial away from 0 that does nothing: those of an edit without one, and noise that no step draws.

    Args:
        sigmas: `n+1` levels of a run.
        changed: which of its n steps are edited.
        dials: name -> value, ``eta`` and ``boost`` among them.
    """
    if not any(changed):
        turned = [name for name, value in dials.items() if value]
        return [f"{name} does nothing: no edit acts, and this is the plain reconstruction" for name in turned]

    def shares(eta: float, boost: float = 0.0) -> list[float]:
        return noise_shares(sigmas, changed, eta, boost)[:-1]  # the last step ends in the clean image

    eta, boost = dials["eta"], dials["boost"]
    drawn = shares(eta, boost)
    lines = []
    if boost and drawn == shares(eta):
        lines.append(f"boost does nothing: no step but the last, which draws no noise, lies below {boost:g}")
    if eta and drawn == shares(0.0, boost):
        lines.append("eta does nothing: no edited step draws noise, or boost draws all of it")
    return lines
