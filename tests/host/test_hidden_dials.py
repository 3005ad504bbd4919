"""A dial that the editor hides is one that the node refuses there, and the other way round."""

from __future__ import annotations

import pytest

from .dial_table import TABLE
from .dial_world import Bench

BLOCKS = "named blocks bring the dial back, whatever the preset"
NOT_HIDDEN = {("HSpaceInjectFeatures", "tau_f"): BLOCKS, ("HSpaceInjectFeatures", "tau_A"): BLOCKS}


@pytest.fixture(scope="module")
def bench(executor) -> Bench:
    return Bench(executor)


def declared(executor, kind: str) -> dict:
    return {one.id: one for one in executor.classes[kind].GET_SCHEMA().inputs}


def rules(executor) -> list[tuple[str, str, str, str]]:
    """Node, dial, deciding combo and one of its options with which the dial is hidden."""
    key = executor.module("nodes.unused").ONLY_WITH
    hidden = []
    for kind in sorted(TABLE):
        inputs = declared(executor, kind)
        for name, one in inputs.items():
            for deciding, options in one.extra_dict.get(key, {}).items():
                all_options = inputs[deciding].options
                assert options and set(options) < set(all_options), (kind, name)
                hidden += [(kind, name, deciding, option) for option in all_options if option not in options]
    return hidden


def test_what_is_hidden_is_refused(bench):
    hidden = rules(bench.executor)
    assert len({(kind, name) for kind, name, _, _ in hidden}) > 20
    for kind, name, deciding, option in hidden:
        if name not in TABLE[kind].moves:
            continue
        move, given = TABLE[kind].moves[name], TABLE[kind].given
        moved = next(value for value in move.values if value != declared(bench.executor, kind)[name].default)
        beside = {n for k, n, d, o in hidden if (k, d, o) == (kind, deciding, option)}
        given = {n: value for n, value in given.items() if n not in beside}
        inputs = {**bench.defaults(kind), **given, deciding: option, name: moved}
        with pytest.raises(ValueError, match=name):
            bench.call(kind, inputs)


def test_what_one_option_refuses_is_hidden(bench):
    hidden = set(rules(bench.executor))
    for kind, dials in TABLE.items():
        inputs = declared(bench.executor, kind)
        for given, name in dials.refused:
            deciding = [other for other in given if other != name]
            if name not in inputs or len(deciding) != 1 or not getattr(inputs[deciding[0]], "options", None):
                continue
            if getattr(inputs[name], "default", None) is None and not getattr(inputs[name], "options", None):
                continue  # a socket
            if (kind, name) not in NOT_HIDDEN:
                assert (kind, name, deciding[0], given[deciding[0]]) in hidden, (kind, name, given)
