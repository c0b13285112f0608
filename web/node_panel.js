/* A panel at the bottom of a node, filled by what the node's run returned. Works in both renderers of the frontend. */

const MARGIN = 8;
const MIN_HEIGHT = 44;
const MAX_HEIGHT = 260;

export function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
}

/**
 * Adds the panel to the node.
 * `panel.label` names it for screen readers, `panel.hint` is its text before the first run, and
 * `panel.render(output)` returns the elements for a run's output, or null where the output has nothing for it.
 * `panel.join(output, shown)`, where there is one, makes what is rendered of an output and of that shown before it.
 */
export function attachPanel(node, panel) {
    const body = element("div", { class: "sb-body" }, element("p", { class: "sb-hint" }, panel.hint));
    const frame = element(
        "div",
        { class: "sb-panel", role: "region", "aria-label": panel.label, tabindex: "0", "data-capture-wheel": "true" },
        body,
    );

    let shown;
    addToNode(node, frame, {
        height: () => Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, body.offsetHeight)),
        show(output) {
            const joined = panel.join ? panel.join(output, shown) : output;
            const elements = panel.render(joined);
            if (!elements) return;
            shown = joined;
            body.replaceChildren(...elements);
            growToFit(node);
        },
        removed: () => observer.disconnect(),
    });
    const observer = new ResizeObserver(() => node.setDirtyCanvas?.(true, true));
    observer.observe(body);
}

/* Adds an element to the node as its panel: at least `height()` high, asked to `show` what a run returned, and told when
   the node is `removed`. */
export function addToNode(node, frame, { height, show, removed }) {
    const widget = node.addDOMWidget("semantic_binding_panel", "semantic_binding_panel", frame, {
        serialize: false,
        hideInPanel: true,
        hideOnZoom: false,
        margin: MARGIN,
        getMinHeight: () => height() + 2 * MARGIN,
    });
    widget.serialize = false;
    node.semanticBindingPanel = {
        frame,
        show(output) {
            frame.dataset.node = placeOf(node);
            show(output);
        },
    };

    const executed = node.onExecuted;
    node.onExecuted = function (output) {
        executed?.apply(this, arguments);
        this.semanticBindingPanel.show(output);
    };
    const wasRemoved = node.onRemoved;
    node.onRemoved = function () {
        removed();
        wasRemoved?.apply(this, arguments);
    };
}

/* Undo makes a node anew, and Nodes 2.0 goes on showing the panel of the one before. */
export function takePlace(node) {
    const { frame } = node.semanticBindingPanel;
    const before = [...document.querySelectorAll(".sb-panel")].find(({ dataset }) => dataset.node === placeOf(node));
    frame.dataset.node = placeOf(node);
    requestAnimationFrame(() => before?.isConnected && !frame.isConnected && before.replaceWith(frame));
}

function placeOf({ graph, id }) {
    return `${graph.id}:${id}`;
}

/* A node is made taller when its panel needs it, and never smaller than the user left it. */
export function growToFit(node) {
    const needed = node.computeSize()[1];
    if (node.size[1] < needed) node.setSize([node.size[0], needed]);
    node.setDirtyCanvas(true, true);
}
