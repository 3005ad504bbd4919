// Hides widgets of a node and shows them again, in both renderers of the editor.

/** The value of a hidden widget is still saved and sent. */
export function setHidden(widget, hidden) {
  widget.hidden = hidden; // the classic canvas
  widget.options.hidden = hidden; // Nodes 2.0, which holds this object
  for (const linked of widget.linkedWidgets ?? []) setHidden(linked, hidden);
}

/** To be called once after some were hidden or shown. */
export function redrawWidgets(node) {
  node.widgets.push(node.widgets.pop()); // Nodes 2.0 reads the options again when the list of widgets changes
  const least = node.computeSize();
  if (node.size[1] < least[1]) node.setSize([node.size[0], least[1]]);
  node.setDirtyCanvas?.(true, true);
}
