/* The viewer as the panel of a node, in place of the frontend's own preview of the node's sheets. */

import { addToNode, element, growToFit } from "../node_panel.js";
import { Viewer } from "./viewer.js";

const MIN_HEIGHT = 420;

export function attachViewer(node, urlOf) {
    const viewer = new Viewer(urlOf);
    const frame = element("div", { class: "sb-panel sb-viewer", role: "region", "aria-label": "Recorded attention" }, viewer.element);
    frame.addEventListener("keydown", keepFromGraph);
    addToNode(node, frame, {
        height: () => (viewer.run ? MIN_HEIGHT : viewer.element.offsetHeight),
        show(output) {
            const run = output?.semantic_binding_maps?.[0];
            if (!run || run.grids[0].files[0] === viewer.run?.grids[0].files[0]) return;
            viewer.show(run, output.images ?? []);
            growToFit(node);
        },
        removed: () => viewer.end(),
    });
    hideOwnPreview(node);
}

/* Keys without a modifier are the panel's while it has the focus: Delete there must not delete the node. */
function keepFromGraph(event) {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
}

/* Nodes 2.0 asks the first, the canvas does the second. */
function hideOwnPreview(node) {
    node.hideOutputImages = true;
    node.onDrawBackground = () => {};
}
