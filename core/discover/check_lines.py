"""What is said of what was measured of a model: one line a thing, with what is usual or what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..measure.check_report import BAD, FAIR, GOOD, CheckLine, CheckReport
from ..measure.domain import SAMPLES, world_text
from ..measure.fitness import fitness_of
from .look import Looks, Parts

_CLEAN, _WRONG = 0.3, 0.7  # error at the lowest level, over the picture's deviation
_CUT, _HALF_CUT = 1e-3, 3e-2
_COMES_BACK, _DRIFTS, _VAE = 30.0, 20.0, 25.0  # dB
_REMEDIES = {
    "derivatives": "load the fp16 or fp8 release to discover; directions of a file can be steered all the same"
}
_BYPASS = "bypass the nodes of other packs on this MODEL, one after another"
_ABOVE = 4.0
OWN_CACHE = "EasyCache"
"""The host's own step cache, which inversions take off by themselves."""
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\\\][\w.\- ]+){2,}")


def report_of(
    parts: Parts, looks: Looks, sigma: float, versions: Sequence[tuple[str, str]], note: str = ""
) -> CheckReport:
    """Put everything that is known of a model into a report.

    Args:
        parts: of it.
        looks: what was measured.
        sigma: level at which to discover.
        versions: of the software, for a bug report.
        note: what has to be done before anything can be measured, or empty.
    """
    lines = [
        _family(parts),
        *_bystanders(parts),
        _size(parts, looks),
        *([CheckLine("not measured", note, BAD)] if note else []),
        *_prediction(looks),
        *_inversion(looks),
        *_autoencoder(looks),
        *_layers(parts, looks),
        *_discovery(parts, looks, sigma),
        *_world(looks),
        *(CheckLine(name, f"failed: {why}", BAD, _remedy(name)) for name, why in looks.failures.items()),
    ]
    facts = [
        *versions,
        ("device", f"{parts.device}, {parts.dtype}"),
        ("model", f"{parts.family}, {parts.megabytes:.0f} MB, predicts {parts.prediction}"),
        ("fingerprint", parts.fingerprint),
        ("on the model", ", ".join(parts.others) or "nothing of other packs"),
        *((line.name, _PATH.sub("(a path)", f"{line.value} [{line.state}]")) for line in lines[1:]),
    ]
    return CheckReport(_verdict(parts, looks, lines, note), lines, fitness_of(parts.traits), facts)


def _verdict(parts: Parts, looks: Looks, lines: list[CheckLine], note: str) -> str:
    if note:
        return f"Not measured. Next: {note}."
    bad = next((line for line in lines if line.state == BAD), None)
    side = parts.side
    size = f"{side}x{side}" if side else "the size it was trained at"
    inverts = f"Invert Image at {size}{_about(_inverting(looks))}"
    if bad is not None:
        return f"Does not work as it is: {bad.name}. Next: {bad.remedy or bad.value}"
    if not parts.layers:
        return (
            f"Works in part: it can be inverted and resumed, but not steered. Next: {inverts}, then Resume Trajectory."
        )
    span = looks.derivatives.span if looks.derivatives else None
    finds = f", then Discover Region Directions{_about(span[1], span[0])}" if span else ""
    fair = [line.name for line in lines if line.state == FAIR]
    but = f", with a note on {_listed(fair)}" if fair else ""
    return f"Works{but}. Next: {inverts}{finds}."


def _remedy(name: str) -> str:
    return _BYPASS if name.startswith("layer") else _REMEDIES.get(name, "")


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _about(most: float | None, least: float | None = None) -> str:
    if most is None:
        return ""
    low = f"{_seconds(least)} to " if least is not None and _seconds(least) != _seconds(most) else ""
    return f" (about {low}{_seconds(most)} s)"


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _inverting(looks: Looks) -> float | None:
    """Seconds of 20 steps with one iteration and back."""
    return None if looks.call is None else looks.call * (20 * 2 + 1 + 20)


def _family(parts: Parts) -> CheckLine:
    low, high = parts.levels
    return CheckLine("family", f"{parts.family}; predicts {parts.prediction}; sigma {low:.3g} to {high:.4g}")


def _bystanders(parts: Parts) -> list[CheckLine]:
    lines = []
    if parts.cache == OWN_CACHE:
        said = "inversions and analyses take it off by themselves; the sampler keeps it"
        lines.append(CheckLine("step cache", f"{OWN_CACHE} is on this MODEL", FAIR, said))
    elif parts.cache:
        said = f"every answer must come from the network: connect the MODEL from before {parts.cache}"
        lines.append(CheckLine("step cache", f"{parts.cache} is on this MODEL", BAD, said))
    others = [name for name in parts.others if OWN_CACHE.lower() not in name.lower()]
    if others:
        said = "they act in everything that follows; bypass them if a line below fails"
        lines.append(CheckLine("other packs", ", ".join(others), FAIR, said))
    return lines


def _size(parts: Parts, looks: Looks) -> CheckLine:
    looked = f"; looked at {'x'.join(map(str, looks.size))} (channels, height, width)" if looks.size else ""
    own = ", a picture that it drew" if looks.drawn and looks.size else ""
    if parts.side is None:
        most = "" if parts.traits.latent else "; for most DDPM files it is 256"
        remedy = f"nothing says what it was trained at{most}"
        return CheckLine("size", f"unknown{looked}{own}", FAIR, remedy)
    return CheckLine("size", f"{parts.side}x{parts.side} pixels{looked}{own}")


def _prediction(looks: Looks) -> list[CheckLine]:
    if looks.clean is None:
        return []
    state = GOOD if looks.clean < _CLEAN else FAIR if looks.clean < _WRONG else BAD
    usual = f"below {_CLEAN:g} of the picture's deviation"
    remedy = usual if state == GOOD else f"{usual}; is this the model's prediction type, and is it trained?"
    return [CheckLine("nearly clean picture", f"comes back with an error of {looks.clean:.2g}", state, remedy)]


def _inversion(looks: Looks) -> list[CheckLine]:
    lines = []
    for back in looks.returned:
        state = GOOD if back.psnr >= _COMES_BACK else FAIR if back.psnr >= _DRIFTS else BAD
        how = f"fixed point without an iteration, {back.calls} calls, {back.seconds:.2g} s"
        value = f"{back.psnr:.1f} dB after {back.steps} steps up and down ({how})"
        remedy = f"{_COMES_BACK:g} dB or more; edits drift below"
        if state != GOOD:
            remedy += ": take more iterations and steps"
        lines.append(CheckLine(f"inversion, {back.steps} steps", value, FAIR if state == BAD else state, remedy))
    return lines


def _autoencoder(looks: Looks) -> list[CheckLine]:
    if looks.autoencoder is None:
        return []
    value = f"{looks.autoencoder:.1f} dB through the VAE and back, without the model"
    usual = "25 dB or more; a picture never comes back better than that"
    return [CheckLine("autoencoder", value, GOOD if looks.autoencoder >= _VAE else FAIR, usual)]


def _layers(parts: Parts, looks: Looks) -> list[CheckLine]:
    if not parts.layers:
        value = f"none: a {parts.traits.network} is not one of the networks that can be cut"
        return [CheckLine("layers", value, FAIR, "Invert, Resume and latent methods work; Discover and Steer do not")]
    names = f"{len(parts.layers)}, {parts.layers[0]} to {parts.layers[-1]}"
    if not looks.cuts:
        return [CheckLine("layers", names, FAIR, "none of them could be looked at: see below")]
    narrow = parts.dtype not in ("float32", "float64")
    limit = _HALF_CUT if narrow else _CUT
    worst = max(cut.error for cut in looks.cuts)
    shapes = "; ".join(f"{c.layer} {'x'.join(map(str, c.shape))}" for c in looks.cuts)
    exact = f"both halves differ from the whole by {worst:.0e}" if worst else "both halves are the whole"
    usual = f"up to {limit:g} of the picture's range"
    value = f"{names}; {shapes}; {exact}"
    if worst <= limit:
        return [CheckLine("layers", value, GOOD, usual)]
    return [CheckLine("layers", value, BAD, f"{usual}: {_BYPASS}")]


def _discovery(parts: Parts, looks: Looks, sigma: float) -> list[CheckLine]:
    if not parts.layers:
        return []
    window = CheckLine("sigma", f"{sigma:.3g} to discover; window {_ABOVE * sigma:.3g} to 0.1 to steer", GOOD)
    found = looks.derivatives
    if found is None:
        return [window]
    low, high = found.span
    free = f" of {_size_of(found.free)} free" if found.free is not None else ""
    memory = f"{_size_of(found.one)} for one vector, {_size_of(found.several)} for {found.chunk} at a time{free}"
    tight = found.free is not None and found.one > 0.8 * found.free
    return [
        CheckLine("derivatives", f"{found.how}; forward and reverse agree to {found.gap:.0e}", GOOD),
        CheckLine("memory", memory, BAD if tight else GOOD, "beside the weights" + "; free memory" * tight),
        CheckLine("five directions", f"{_seconds(low)} to {_seconds(high)} s ({found.seconds:.2g} s a product)"),
        window,
    ]


def _size_of(amount: int) -> str:
    return f"{amount / 1e9:.1f} GB" if amount >= 1e8 else f"{amount / 1e6:.1f} MB"


def _world(looks: Looks) -> list[CheckLine]:
    if looks.reference is None:
        hint = f"depth full lets the model draw {SAMPLES} pictures to compare with; Invert Image then says it too"
        return [CheckLine("its world", "nothing is known of it", GOOD, hint)]
    known = looks.reference
    between = f"1 to 99 %: {known.quantiles[0]:.3g} to {known.quantiles[-1]:.3g}"
    value = f"median error {known.median:.3g} at sigma {known.sigma:.2g} ({known.source}; {between})"
    lines = [CheckLine("its world", value)]
    if looks.world is not None:
        told = world_text(looks.world)
        state = BAD if looks.world.is_outside else GOOD if looks.world.is_usual else FAIR
        text = told or f"typical: {looks.world.worst:.2f} times the median"
        lines.append(CheckLine("your picture", text, FAIR if state == BAD else state, "up to 1.25 is typical"))
    return lines
