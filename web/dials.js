// Sliders of "Edit Image by Dials": the picture follows while one is dragged, and is rendered exactly when it is let go.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { Panel } from "./dial_panel.js";
import { redrawWidgets, setHidden } from "./widget_visibility.js";

const NAME = "HSpace.Dials";
const NODE = "HSpaceDials";
const NAMES = "hspace_names"; // property of a node: labels of its dials, kept in the workflow
const PAUSE = 500; // ms without a change after which a slider counts as let go, if no button is pressed
const COLOURS = {
  HSPACE_TRAJECTORY: "#7aa2f7",
  HSPACE_DIRECTIONS: "#e0af68",
  HSPACE_BASIS: "#e0af68",
  HSPACE_PLACEMENT: "#9ece6a",
  HSPACE_HEADS: "#bb9af7",
  HSPACE_DELTA: "#bb9af7",
  HSPACE_DELTAMAPPER: "#bb9af7",
  HSPACE_PADA: "#bb9af7",
  HSPACE_RECTIFIER: "#bb9af7",
};

const sliders = (node) => (node.widgets ?? []).filter((widget) => /^dial_\d+$/.test(widget.name));

function address({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

function load(file) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error(`${file.filename} is gone`));
    image.src = address(file);
  });
}

/** Names the sliders, and hides those that have no direction. */
function label(node, names) {
  if (!Array.isArray(names) || !names.length) return;
  sliders(node).forEach((widget, i) => {
    const name = names[i];
    widget.label = name ?? widget.name; // its name stays the key of prompts and saved values
    const slot = node.inputs?.find((input) => input.widget?.name === widget.name);
    if (slot) slot.label = widget.label;
    const isHidden = name === undefined;
    if (Boolean(widget.hidden) !== isHidden) setHidden(widget, isHidden);
  });
  redrawWidgets(node);
}

/** Runs the graph once when a dial is let go, and once more if it was turned meanwhile. */
class Runner {
  /** @param {() => boolean} isDue whether the picture shown is not that of the sliders */
  constructor(isDue) {
    this.isDue = isDue;
    this.isRunning = false;
    this.isPressed = false;
    this.isWaiting = false;
    this.timer = 0;
    const press = () => { this.isPressed = true; };
    const release = () => { this.isPressed = false; this.later(0); };
    const end = () => { this.isRunning = false; this.later(0); };
    this.heard = [
      ...[["pointerdown", press], ["pointerup", release], ["pointercancel", release]].map((one) => [window, ...one]),
      ...["execution_success", "execution_error", "execution_interrupted"].map((name) => [api, name, end]),
    ];
    for (const [source, name, react] of this.heard) source.addEventListener(name, react, true);
  }

  remove() {
    clearTimeout(this.timer);
    for (const [source, name, react] of this.heard) source.removeEventListener(name, react, true);
  }

  /** A dial was turned. */
  turned() {
    this.isWaiting = true;
    this.later(PAUSE);
  }

  later(pause) {
    clearTimeout(this.timer);
    if (this.isWaiting) this.timer = setTimeout(() => this.run(), pause);
  }

  async run() {
    if (this.isPressed || this.isRunning) return; // comes back when that ends
    this.isWaiting = false;
    if (!this.isDue()) return;
    this.isRunning = true;
    try {
      if ((await app.queuePrompt(0, 1)) === false) this.isRunning = false;
    } catch {
      this.isRunning = false;
    }
  }
}

/** Colours of our sockets, unless the palette has some; a change of palette empties the tables. */
function colour() {
  const tables = [globalThis.LGraphCanvas?.link_type_colors, app.canvas?.default_connection_color_byType];
  for (const [type, shade] of Object.entries(COLOURS)) {
    for (const table of tables) if (table && !table[type]) table[type] = shade;
  }
}

/** The same for Nodes 2.0, which reads variables. */
function colourVariables() {
  const style = document.createElement("style");
  const lines = Object.entries(COLOURS).map(([type, shade]) => `--color-datatype-${type}:${shade};`);
  style.textContent = `:root{${lines.join("")}}`;
  document.head.append(style);
}

function addPanel(node) {
  const values = () => sliders(node).map((widget) => Number(widget.value));
  const panel = new Panel({
    values,
    turn: (dial, value) => {
      const widget = sliders(node)[dial];
      widget.value = value;
      widget.callback?.(value);
      node.setDirtyCanvas?.(true, true);
    },
    run: () => runner.run(),
    zoom: (event) => app.canvas?.processMouseWheel?.(event),
  });
  const runner = new Runner(() => panel.isPreview());
  const widget = node.addDOMWidget("picture", "hspace_picture", panel.root, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => 300,
  });
  widget.serialize = false; // options.serialize keeps it out of prompts, this out of saved values
  node.hideOutputImages = true; // Nodes 2.0 shows no second picture
  node.onDrawBackground = () => {}; // nor does the classic canvas, which makes its own here
  sliders(node).forEach((slider, d) => {
    const before = slider.callback;
    slider.callback = function turned(...given) {
      const result = before?.apply(this, given);
      panel.pick(d);
      panel.show();
      runner.turned();
      return result;
    };
  });

  async function take(facts) {
    const { pictures, strips } = facts;
    if (!pictures?.final) return;
    const names = ["final", "rest", "original"];
    const [shown, films] = await Promise.all([
      Promise.all(names.map((name) => load(pictures[name]))),
      Promise.all(strips.map(load)),
    ]);
    const images = Object.fromEntries(names.map((name, i) => [name, shown[i]]));
    node.properties ??= {};
    node.properties[NAMES] = facts.names;
    label(node, facts.names);
    panel.take(facts, { ...images, strips: films });
  }
  return { take, remove: () => runner.remove() };
}

function wrap(node, hook, after) {
  const before = node[hook];
  node[hook] = function wrapped(...given) {
    const result = before?.apply(this, given);
    after.apply(this, given);
    return result;
  };
}

const gone = () => {}; // temporary pictures do not outlive the server: the panel asks for a run

// The host serves this folder under two names, and the second must not add a second panel.
if (!app.extensions?.some((extension) => extension.name === NAME)) {
  app.registerExtension({
    name: NAME,
    setup() {
      colour();
      colourVariables();
    },
    afterConfigureGraph: colour,
    nodeCreated(node) {
      if (node.comfyClass !== NODE) return;
      const panel = addPanel(node);
      node.hspaceDials = panel;
      wrap(node, "onExecuted", (output) => {
        const facts = output?.hspace_dials?.[0];
        if (facts) panel.take(facts).catch(gone);
      });
      wrap(node, "onConfigure", () => label(node, node.properties?.[NAMES]));
      wrap(node, "onRemoved", () => panel.remove());
      const [width, height] = node.size;
      node.setSize?.([Math.max(width, 380), Math.max(height, 700)]);
    },
    // Back from another tab of the editor, the host puts outputs back just after the graph was loaded.
    loadedGraphNode(node) {
      if (!node.hspaceDials) return;
      setTimeout(() => {
        const facts = app.nodeOutputs?.[node.id]?.hspace_dials?.[0];
        if (facts) node.hspaceDials.take(facts).catch(gone);
      }, 200);
    },
  });
}
