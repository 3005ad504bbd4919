// Hides widgets of a node and shows them again, in both renderers of the editor.

// Why a widget is hidden in the classic canvas; it is shown again when no reason is left. The host serves this folder
// under two names, and one extension may come from each: so the reasons stand on the widget, and not in this module.
const REASONS = Symbol.for("HSpace.hidden");

/** The value of a hidden widget is still saved and sent. Widgets that are linked to it go with it. */
export function setHidden(widget, hidden) {
  widget.options.hidden = hidden; // Nodes 2.0, which holds this object
  hideInClassic(widget, hidden, "unused");
  for (const linked of widget.linkedWidgets ?? []) setHidden(linked, hidden);
}

/** Hides in the classic canvas alone, for one of several reasons; says whether that changed anything. */
export function hideInClassic(widget, hidden, reason) {
  const mine = (widget[REASONS] ??= new Set());
  if (hidden) mine.add(reason);
  else mine.delete(reason);
  const before = Boolean(widget.hidden);
  widget.hidden = mine.size > 0;
  return widget.hidden !== before;
}

/** Whether {@link setHidden} has hidden it. */
export function isHidden(widget) {
  return widget[REASONS]?.has("unused") ?? false;
}

/** To be called once after some were hidden or shown. */
export function redrawWidgets(node) {
  node.widgets.push(node.widgets.pop()); // Nodes 2.0 reads the options again when the list of widgets changes
  const least = node.computeSize();
  if (node.size[1] < least[1]) node.setSize([node.size[0], least[1]]);
  node.setDirtyCanvas?.(true, true);
}

export function isConnected(node, name) {
  return node.inputs?.some((input) => input.widget?.name === name && input.link != null) ?? false;
}

export function defaultOf([kind, options]) {
  const choices = Array.isArray(kind) ? kind : options.options;
  return options.default ?? choices?.[0];
}

/** Calls `then` after each change of a widget, by hand or by another extension. */
export function watch(widget, then) {
  const before = widget.callback;
  widget.callback = function (...given) {
    const result = before?.apply(this, given);
    then();
    return result;
  };
}
