"""Our nodes beside every mechanism of the host: each cell of the table is exact, refused by name, or acts as it says.
Every cell is run where a change is merged, a share of each row by ``dev.py test``."""

import pytest

from devtools.compatibility.cells import CELLS, fault
from devtools.compatibility.edits import EDITS
from devtools.compatibility.elsewhere import ELSEWHERE
from devtools.compatibility.measure import Bench
from devtools.compatibility.mechanisms import MECHANISMS, MENU
from devtools.compatibility.page import PAGE, page
from devtools.compatibility.table import verdict_of
from devtools.compatibility.verdicts import can_connect

from ..sweeps import share

PART = 4  # one cell of so many: every verdict is among them


@pytest.fixture(scope="module")
def bench(executor):
    return Bench(executor)


@pytest.mark.sweep
@pytest.mark.parametrize("edit", EDITS, ids=[e.name for e in EDITS])
def test_every_cell_of_a_node_is_what_the_table_says(bench, edit, cells_of):
    """And after all of them the plain graph gives what it gave before, bit for bit."""
    before, mechanisms = bench.measured, cells_of(MECHANISMS, EDITS.index(edit), PART)
    faults = {mechanism.name: fault(bench, edit, mechanism) for mechanism in mechanisms}
    assert {name: wrong for name, wrong in faults.items() if wrong} == {}
    assert bench.measured - before == sum(can_connect(edit, mechanism) for mechanism in mechanisms)
    assert bench.left_behind(edit) == 0


def test_a_share_of_the_table_has_every_node_every_mechanism_and_every_verdict():
    cells = [(edit, mechanism) for row, edit in enumerate(EDITS) for mechanism in share(MECHANISMS, row, PART)]
    assert len(cells) < len(CELLS) / 3
    assert {edit.name for edit, _ in cells} == {e.name for e in EDITS}
    connected = {mechanism.name for edit, mechanism in cells if can_connect(edit, mechanism)}
    assert connected == {m.name for m in MECHANISMS}
    assert {verdict_of(*cell).test for cell in cells} == {verdict_of(*cell).test for cell in CELLS}


def test_the_table_has_every_pair():
    assert len(CELLS) == len(EDITS) * len(MECHANISMS) == len({(e.name, m.name) for e, m in CELLS})


def test_the_page_is_written_from_the_table():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m devtools.compatibility.page"


def test_rows_have_the_names_of_the_hosts_menu(executor):
    shown = executor.nodes.NODE_DISPLAY_NAME_MAPPINGS
    assert {node: shown[node] for node in (m.node for m in MECHANISMS) if shown.get(node, node) != node} == MENU


def test_every_stock_patch_of_a_model_is_in_the_table_or_named_beside_it(executor):
    stock = set()
    for name, cls in executor.classes.items():
        module = getattr(cls, "RELATIVE_PYTHON_MODULE", None) or cls.__module__
        inputs = {**cls.INPUT_TYPES().get("required", {}), **cls.INPUT_TYPES().get("optional", {})}
        if (
            module.startswith(("comfy_extras", "nodes"))
            and "MODEL" in cls.RETURN_TYPES
            and any(kind[0] == "MODEL" for kind in inputs.values())
        ):
            stock.add(name)
    told = {m.node for m in MECHANISMS} | set(ELSEWHERE)
    merges = {name for name in stock if module_of(executor, name).endswith("model_merging_model_specific")}
    forgotten = {n for n in stock - told - merges if set(executor.classes[n].RETURN_TYPES) <= {"MODEL", "CLIP"}}
    assert not forgotten
    assert not set(ELSEWHERE) - stock and not set(ELSEWHERE) & {m.node for m in MECHANISMS}


def module_of(executor, name):
    return getattr(executor.classes[name], "RELATIVE_PYTHON_MODULE", None) or executor.classes[name].__module__
