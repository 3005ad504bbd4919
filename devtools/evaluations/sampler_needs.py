"""What samplers of the host need with the pack's SAMPLERs, GUIDERs and patches."""

from __future__ import annotations

from .need import Need, Needs
from .runs import Ran

_FLOWEDIT = {"strength": 1.0, "source_cfg": 1.0, "refine": 0, "average": 1}


def ksampler(needs: Needs, ran: Ran) -> Need:
    """KSampler."""
    b = len(ran.inputs["latent_image"]["samples"])
    g = 1 if ran.inputs["cfg"] == 1 else 2
    return Need("N", ran.inputs["steps"], ran.inputs["steps"] * b * g)


def sampler(needs: Needs, ran: Ran) -> Need:
    """SamplerCustomAdvanced: what the guider asks in a step, times the steps of the sampler."""
    n, b = len(ran.inputs["sigmas"]) - 1, len(ran.inputs["latent_image"]["samples"])
    guider = ran.links["guider"]
    sampler = ran.links["sampler"]
    g = 2 if guider.kind == "CFGGuider" and guider.inputs["cfg"] != 1 else 1
    if guider.kind == "HSpaceConceptEditGuider":
        return _concepts(needs, ran, guider, sampler, n * b)
    if sampler.kind == "HSpaceFlowEdit":
        return _flowedit(ran, sampler, n, b, g)
    if sampler.kind == "HSpaceSDEditRepeat":
        n *= sampler.inputs["repeats"]
        return Need("N a repeat", n, n * b * g)
    if sampler.kind == "HSpaceSampleExactInversion":
        method = needs.trajectory(sampler.inputs["trajectory"]).exact.method
        calls = 2 * n if method == "edict" else n - 1
        return Need("2 N (edict), N - 1 (bdia)", calls, calls * b * g)
    if sampler.kind == "HSpaceResumeTrajectory":
        return _resume(needs, ran, guider, n, b, g)
    more = _step_before(needs, sampler) if sampler.kind == "HSpaceSampleEditFriendly" else 0
    return Need("N" + " + 1 for the step before" * more, n + more, (n + more) * b * g)


def _flowedit(ran: Ran, sampler: Ran, n: int, b: int, g: int) -> Need:
    """Each side is a call of its own; the source side also looks at the edited picture unless the dial stands at 1."""
    dials = {name: sampler.inputs.get(name, usual) for name, usual in _FLOWEDIT.items()}
    if not dials["strength"]:
        return Need("none at strength 0", 0, 0)
    alone = sampler.inputs.get("source") is not None
    pictures = b if alone else b // ran.upstream("HSpacePairLatent")[0].inputs["rows"]
    targets = b if alone else b - pictures
    plain = dials["strength"] == 1
    source_g = 1 if dials["source_cfg"] == 1 else g
    draws = dials["average"] * (n - dials["refine"])
    calls = 2 * draws + (1 if plain else 2) * dials["refine"]
    looked = draws * (pictures + targets * (not plain)) + (0 if plain else dials["refine"] * targets)
    return Need("2 N: source, targets", calls, looked * source_g + (draws + dials["refine"]) * targets * g)


def _step_before(needs: Needs, sampler: Ran) -> int:
    """Second order looks back at the step before the first one."""
    trajectory = needs.trajectory(sampler.inputs["trajectory"])
    return int(sampler.inputs["skip"] > 0 and not trajectory.method.endswith("ddpm"))


def _concepts(needs: Needs, ran: Ran, guider: Ran, sampler: Ran, pictures: int) -> Need:
    more = _step_before(needs, sampler)
    n = len(ran.inputs["sigmas"]) - 1
    concepts = guider.upstream("HSpaceEditConcept")
    acting = sum(c.inputs["cool_down"] - c.inputs["warm_up"] for c in concepts) / max(len(concepts), 1)
    rows = (n + more) * (pictures // n) * (1 + len(concepts) * acting)
    return Need("N + 1 with a step skipped; a row for the base and one a concept", n + more, rows)


def _resume(needs: Needs, ran: Ran, guider: Ran, n: int, b: int, g: int) -> Need:
    """The pair's unconditional source is read by nobody, its other row while Prompt-to-Prompt acts or a blend looks."""
    features = guider.upstream("HSpaceInjectFeatures")
    if features:
        taken = max(int(n * features[0].inputs[name] + 1e-6) for name in ("tau_f", "tau_A"))
        pictures = needs.trajectory(features[0].inputs["trajectory"]).states.shape[1]
        return Need("N, and 1 for the source while its features are taken", n + taken, n * b * g + taken * pictures)
    control = guider.upstream("HSpacePromptToPrompt")
    blend = guider.upstream("HSpaceP2PLocalBlend")
    if not control:
        return Need("N", n, n * b * g)
    mask = blend[0].inputs.get("mask") if blend else None
    soft = mask is not None and bool(((mask > 0) & (mask < 1)).any())
    if soft:  # the source's guided prediction is blended in at the mask's edge
        return Need("N x rows x 2: the mask is soft", n, n * b * g)
    cross = int((n + 1) * control[0].inputs["cross_end"] + 1e-6)
    acting = n if blend else max(cross, int(n * control[0].inputs["self_end"] + 1e-6))
    rows = acting * (b + (g - 1) * (b - 1)) + (n - acting) * g * (b - 1)
    return Need("N; rows x 2 - 1 while the source is read, (rows - 1) x 2 afterwards", n, rows)
