// Puts the advanced dials of the pack's nodes away in the classic canvas, as Nodes 2.0 does by itself. They come back by
// "Show Advanced" in the menu of the node. One that was moved from its default, or is connected, stays in sight.

import { app } from "../../scripts/app.js";
import { defaultOf, hideInClassic, isConnected, redrawWidgets, watch } from "./widget_visibility.js";

const NAME = "HSpace.AdvancedDials";
const OWN = "HSpace";

// Widget -> its declaration, of those that are advanced.
function advancedDials(node) {
  const { required = {}, optional = {} } = node.constructor.nodeData?.input ?? {};
  const declared = { ...required, ...optional };
  return new Map(
    (node.widgets ?? []).filter(({ name }) => declared[name]?.[1]?.advanced).map((widget) => [widget, declared[widget.name]])
  );
}

function refresh(node, dials) {
  let changed = false;
  for (const [widget, declaration] of dials) {
    const moved = widget.value !== defaultOf(declaration) || isConnected(node, widget.name);
    widget.advanced = !moved; // the menu of the classic canvas asks for it
    changed = hideInClassic(widget, !moved && !node.showAdvanced, "advanced") || changed;
  }
  if (changed) redrawWidgets(node);
}

// Calls `then` after a method of the node.
function follow(node, method, then) {
  const before = node[method];
  node[method] = function (...given) {
    const result = before?.apply(this, given);
    then();
    return result;
  };
}

const extension = {
  name: NAME,
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith(OWN)) return;
    const dials = advancedDials(node);
    if (!dials.size) return;
    const fresh = () => refresh(node, dials);
    for (const widget of dials.keys()) watch(widget, fresh);
    for (const event of ["onConfigure", "onConnectionsChange", "toggleAdvanced"]) follow(node, event, fresh);
    let isSaved = false; // a node of a saved graph brings its size
    follow(node, "onConfigure", () => (isSaved = true));
    setTimeout(() => {
      // when the node is whole
      fresh();
      if (!isSaved) node.setSize?.([node.size[0], node.computeSize()[1]]);
    });
  },
};

// The host serves this folder under two names, and the second must not watch everything again.
if (!app.extensions?.some((one) => one.name === NAME)) app.registerExtension(extension);
