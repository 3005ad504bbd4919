"""Dials that do nothing are told."""

from core.edit.directions.idle import idle_dials

SIGMAS = [4.0, 2.0, 1.0, 0.0]
DIALS = {"eta": 0.0, "boost": 0.0, "protect": 0.0}


def told(changed=(True, True, True), **dials) -> str:
    return " ".join(idle_dials(SIGMAS, changed, {**DIALS, **dials}))


def test_without_an_edit_every_dial_is_idle():
    assert told((False,) * 3, eta=0.5, protect=1.0).count("no edit acts") == 2
    assert not told((False,) * 3)


def test_noise_that_no_step_draws_is_told():
    assert "boost does nothing" in told(boost=0.5)
    assert "eta does nothing" in told((False, False, True), eta=0.5)
    assert not told(eta=0.5) and not told(boost=3.0)
