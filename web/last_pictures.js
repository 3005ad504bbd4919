// Shows the pictures of the last run again after the page was reloaded: the editor forgets them, the server does not.
// It asks the server's own history of runs, once for a graph that was opened without pictures. Nothing is computed.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NAME = "HSpace.LastPictures";
const OURS = /^HSpace/;
const RUNS = 8; // how far back it looks
const WAIT = 400; // ms; back from another tab, the editor puts its own pictures back just after the graph was loaded

const isOurs = (node) => OURS.test(node?.comfyClass ?? node?.type ?? "");

function hasPictures(graph) {
  return graph.nodes.some((node) => isOurs(node) && app.nodeOutputs?.[node.id]);
}

/** Whether the graph still has the node that a run knows by this id; "12:5" is node 5 of the subgraph 12. */
function isThere(graph, id, kind) {
  const [outer, ...inner] = id.split(":");
  const node = graph.getNodeById(Number(outer));
  return inner.length ? Boolean(node?.isSubgraphNode?.()) : node?.type === kind;
}

/** What our nodes showed in the last runs of a graph: id of a node -> [id of the run, output]. */
function shownBefore(graph, history) {
  const shown = {};
  for (const [run, { prompt, outputs }] of Object.entries(history)) { // the oldest first
    const [, , nodes, facts] = prompt ?? [];
    if (facts?.extra_pnginfo?.workflow?.id !== graph.id) continue;
    for (const [id, output] of Object.entries(outputs ?? {})) {
      const kind = nodes?.[id]?.class_type ?? "";
      if (OURS.test(kind) && isThere(graph, id, kind)) shown[id] = [run, output];
    }
  }
  return shown;
}

async function bringBack(graph) {
  if (graph !== app.graph || !graph.nodes.some(isOurs) || hasPictures(graph)) return;
  const reply = await api.fetchApi(`/history?max_items=${RUNS}`);
  if (!reply.ok) return;
  const shown = shownBefore(graph, await reply.json());
  if (graph !== app.graph || hasPictures(graph)) return; // another tab, or a run, came first
  for (const [node, [run, output]] of Object.entries(shown)) {
    api.dispatchCustomEvent("executed", { node, display_node: node, output, prompt_id: run });
  }
}

// The host serves this folder under two names, and the second must not ask again.
if (!app.extensions?.some((extension) => extension.name === NAME)) {
  app.registerExtension({
    name: NAME,
    afterConfigureGraph() {
      const graph = app.graph;
      setTimeout(() => bringBack(graph).catch((error) => console.warn("HSpace: no pictures of the last run:", error)), WAIT);
    },
  });
}
