"""Dials that a setting does not use are not shown, in both of the editor's renderers."""

import pytest

RENDERERS = {"classic": False, "nodes2": True}
# Values live under the id of a node: one that clears the graph, and with it the count of ids, meets them again.
PLACE = """kind => { const app = window.app; [...app.graph.nodes].forEach(one => app.graph.remove(one)); const node = window.LiteGraph.createNode(kind);
    node.pos = [200, 150]; app.graph.add(node); window.__node = node; }"""
TURN = """([name, value]) => { const widget = window.__node.widgets.find(one => one.name === name);
    widget.value = value; widget.callback?.(value); }"""
# What the classic canvas does not draw, and what Nodes 2.0 leaves out of the page.
SHOWN = {
    "classic": "() => window.__node.widgets.filter(one => !one.hidden).map(one => one.name)",
    "nodes2": "() => document.querySelector('[data-node-id]').innerText.split('\\n').map(one => one.trim())",
}


@pytest.fixture(params=RENDERERS)
def renderer(request, shared_editor):
    set_renderer(shared_editor, RENDERERS[request.param])
    yield request.param
    set_renderer(shared_editor, False)


def set_renderer(editor, nodes2: bool) -> None:
    editor.page.evaluate("on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", nodes2)
    editor.page.wait_for_timeout(500)


def shown(editor, renderer: str) -> set[str]:
    editor.page.wait_for_timeout(1000)
    return set(editor.page.evaluate(SHOWN[renderer]))


def turn(editor, name: str, value) -> None:
    editor.page.evaluate(TURN, [name, value])


def test_dials_follow_the_setting(shared_editor, renderer):
    shared_editor.page.evaluate(PLACE, "HSpaceDiscoverRegion")
    assert {"tau"} == shown(shared_editor, renderer) & {"tau", "rank"}
    turn(shared_editor, "mode", "post")
    assert {"rank"} == shown(shared_editor, renderer) & {"tau", "rank"}
    turn(shared_editor, "mode", "none")
    assert not shown(shared_editor, renderer) & {"tau", "rank"}
    turn(shared_editor, "mode", "generalized")
    assert {"tau"} == shown(shared_editor, renderer) & {"tau", "rank"}


def test_a_dial_that_was_moved_stays_in_sight(shared_editor, renderer):
    """The node refuses it by name: one must be able to set it back."""
    shared_editor.page.evaluate(PLACE, "HSpaceInvertImage")
    turn(shared_editor, "iterations", 3)
    turn(shared_editor, "method", "ddim B")
    assert "iterations" in shown(shared_editor, renderer)
    turn(shared_editor, "iterations", 1)
    assert "iterations" not in shown(shared_editor, renderer)


def test_values_of_a_saved_graph_decide(shared_editor, renderer):
    shared_editor.page.evaluate(PLACE, "HSpaceDemoFace")
    turn(shared_editor, "source", "dials")
    saved = shared_editor.page.evaluate("() => window.app.graph.serialize()")
    shared_editor.load(saved)
    shared_editor.page.evaluate("() => { window.__node = window.app.graph.nodes[0]; }")
    assert not shown(shared_editor, renderer) & {"seed", "count", "control_after_generate"}
    assert "smile" in shown(shared_editor, renderer)
    sent = shared_editor.to_prompt()
    assert {"seed", "count"} <= set(next(iter(sent.values()))["inputs"])


@pytest.mark.parametrize("renderer", ["classic"], indirect=True)
def test_advanced_dials_come_by_the_menu_of_the_node(shared_editor, renderer):
    """Nodes 2.0 has a button of its own for them."""
    page = shared_editor.page
    page.evaluate(PLACE, "HSpaceDirectionAtlas")
    assert {"strength", "columns"} <= shown(shared_editor, renderer)
    assert not shown(shared_editor, renderer) & {"sigma_start", "sigma_end"}
    low = page.evaluate("() => window.__node.computeSize()[1]")
    turn(shared_editor, "sigma_end", 0.3)
    assert "sigma_end" in shown(shared_editor, renderer), "one that was moved stays in sight"
    turn(shared_editor, "sigma_end", 0.1)
    assert "sigma_end" not in shown(shared_editor, renderer)
    page.evaluate("() => window.__node.toggleAdvanced()")  # what "Show Advanced" in the menu does
    assert {"sigma_start", "sigma_end"} <= shown(shared_editor, renderer)
    assert page.evaluate("() => window.__node.size[1]") > low
    page.evaluate("() => window.__node.toggleAdvanced()")
    assert not shown(shared_editor, renderer) & {"sigma_start", "sigma_end"}
    sent = next(iter(shared_editor.to_prompt().values()))["inputs"]
    assert (sent["sigma_start"], sent["sigma_end"]) == (0, 0.1)


def test_a_dial_may_be_unused_and_advanced(shared_editor, renderer):
    """Each reason hides it by itself."""
    shared_editor.page.evaluate(PLACE, "HSpaceInvertImage")
    turn(shared_editor, "method", "edict")
    if renderer == "classic":
        shared_editor.page.evaluate("() => window.__node.toggleAdvanced()")
        assert "mixing" in shown(shared_editor, renderer)
    turn(shared_editor, "method", "ddim B")
    assert not shown(shared_editor, renderer) & {"mixing", "iterations", "gamma"}


BOTH = """async ([one, other]) => { const [a, b] = [await import(one), await import(other)], widget = {options: {}};
    a.setHidden(widget, true); b.hideInClassic(widget, true, "advanced"); b.hideInClassic(widget, false, "advanced");
    return [a === b, widget.hidden, b.isHidden(widget)]; }"""


def test_reasons_to_hide_are_shared_by_both_names_of_the_folder(shared_editor, server):
    """The host serves the folder under two names; which copy of an extension is registered is a matter of luck."""
    names = [name for name in server.get("/extensions") if name.endswith("widget_visibility.js")]
    assert len(names) == 2
    assert shared_editor.page.evaluate(BOTH, names) == [False, True, True]
