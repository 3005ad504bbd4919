"""Read what a fingerprint says of a model.

The weights, and by name everything on top of them that changes what the network predicts.

``base`` (hex digits), then "+" and a part for each thing that differs from the model as it was loaded: eight hex digits
alone for weight patches (LoRA, merged or bypassed), or ``name.value`` with a name of :data:`PARTS`. Two models are the
same if all their parts are.
"""

from __future__ import annotations

import re

PARTS = {
    "": "LoRA or other weight patches",
    "injection": "code that another pack injects into the network",
    "network": "replaced parts of the network",
    "prediction": "prediction type",
    "sigmas": "sigma table",
    "shift": "shift",
    "timesteps": "timesteps that the network sees",
    "noise": "scale of the noise",
    "latents": "scale of the latents",
}
PATTERN = re.compile(r"[0-9a-f]{6,64}(\+([a-z]{1,16}\.)?[0-9a-z.-]{1,24}){0,16}")
_VALUES = {"shift"}  # shown as they are; the others are digests
_ADDED = {"", "injection", "network"}  # lie on top of the model; the others are another value of what every model has


def parts_of(fingerprint: str) -> dict[str, str]:
    """Split a fingerprint into parts by name; ``weights`` is the model as it was loaded."""
    base, *more = fingerprint.split("+")
    parts = {"weights": base}
    for part in more:
        name, dot, value = part.partition(".")
        parts[name if dot else ""] = value if dot else part
    return parts


def without_patches(fingerprint: str) -> str:
    """Drop weight patches and injections, which directions and trained edits do not depend on."""
    base, *more = fingerprint.split("+")
    return "+".join([base, *(part for part in more if "." in part and not part.startswith("injection."))])


def differences(before: str, now: str) -> str:
    """Say what tells two models apart: "the prediction type, the shift (3 before, 1.15 now)".

    Empty if nothing does.
    """
    a = parts_of(before)
    b = parts_of(now)
    changes = []
    for name in dict.fromkeys(("weights", *PARTS, *a, *b)):
        old = a.get(name)
        new = b.get(name)
        if old == new:
            continue
        if name == "weights":
            changes.append(f"the weights ({old} before, {new} now)")
        elif name in _VALUES and old and new:
            changes.append(f"the {PARTS[name]} ({old} before, {new} now)")
        elif name in _ADDED:
            how = "only here" if not old else "only there" if not new else "others, or at another strength"
            changes.append(f"the {PARTS[name]} ({how})")
        else:
            changes.append(f"the {PARTS.get(name, name)}")
    return ", ".join(changes)


def check_built_on(carried: str, fingerprint: str, what: str, remedy: str) -> None:
    """Refuse a model built on another one than that which something was made on; weight patches (LoRA) may differ.

    Args:
        carried: fingerprint that it carries.
        fingerprint: of the model connected.
        what: "these directions were found".
        remedy: what to do.

    Raises:
        ValueError: it is another, and in what.
    """
    here = without_patches(fingerprint)
    if without_patches(carried) != here:
        raise ValueError(
            f"{what} on model {carried}, but the model connected here is {fingerprint}, which differs in"
            f" {differences(carried, here)}; {remedy}"
        )
