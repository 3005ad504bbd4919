// Hides the dials that a setting does not use. Which those are is declared with each input of the pack's nodes:
// "hspace_only_with": {"method": ["fixed point"]} acts while the widget "method" holds one of these values.
// A dial that was moved from its default stays in sight: the node refuses it by name, and one must be able to set it back.

import { app } from "../../scripts/app.js";
import { defaultOf, isConnected, isHidden, redrawWidgets, setHidden, watch } from "./widget_visibility.js";

const NAME = "HSpace.HiddenDials";
const RULE = "hspace_only_with";

// Name of an input -> its declaration, of those that have a rule.
function ruledInputs(node) {
  const { required = {}, optional = {} } = node.constructor.nodeData?.input ?? {};
  const declared = Object.entries({ ...required, ...optional });
  return Object.fromEntries(declared.filter(([, input]) => input[1]?.[RULE]));
}

function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

function acts(node, rule) {
  return Object.entries(rule).every(
    ([name, values]) => isConnected(node, name) || values.includes(widgetOf(node, name)?.value)
  );
}

function refresh(node, ruled) {
  let changed = false;
  for (const [name, input] of Object.entries(ruled)) {
    const widget = widgetOf(node, name);
    if (!widget) continue;
    const moved = widget.value !== defaultOf(input) || isConnected(node, name);
    const hidden = !moved && !acts(node, input[1][RULE]);
    if (hidden !== isHidden(widget)) {
      setHidden(widget, hidden);
      changed = true;
    }
  }
  if (changed) redrawWidgets(node);
}

const extension = {
  name: NAME,
  nodeCreated(node) {
    const ruled = ruledInputs(node);
    const names = Object.keys(ruled);
    if (!names.length) return;
    const deciding = names.flatMap((name) => Object.keys(ruled[name][1][RULE]));
    for (const name of new Set([...deciding, ...names])) {
      const widget = widgetOf(node, name);
      if (widget) watch(widget, () => refresh(node, ruled));
    }
    const configured = node.onConfigure; // values of a saved workflow
    node.onConfigure = function (...given) {
      const result = configured?.apply(this, given);
      refresh(node, ruled);
      return result;
    };
    const connected = node.onConnectionsChange;
    node.onConnectionsChange = function (...given) {
      const result = connected?.apply(this, given);
      refresh(node, ruled);
      return result;
    };
    setTimeout(() => refresh(node, ruled)); // when the node is whole
  },
};

// The host serves this folder under two names, and the second must not watch everything again.
if (!app.extensions?.some((one) => one.name === NAME)) app.registerExtension(extension);
