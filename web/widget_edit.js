/* Inputs of a node: what they are set to, and writing one of them as one step of the frontend's undo. */

import { app } from "../../scripts/app.js";

const FRAMES_TO_SETTLE = 3;

export function isLinked(node, name) {
    return Boolean(node.inputs?.some((input) => input.widget?.name === name && input.link != null));
}

export function widgetOf(node, name) {
    return node.widgets.find((widget) => widget.name === name);
}

/* Calls back whenever the user, an edit or a script sets the input. */
export function watch(node, name, changed) {
    const widget = widgetOf(node, name);
    const callback = widget.callback;
    widget.callback = function () {
        callback?.apply(this, arguments);
        changed();
    };
}

/* What was changed before and not noted yet stays a step of its own. The step ends when Nodes 2.0 has made the node as
   large as its panel needs now: later, that would be a step too. */
export async function write(node, name, value) {
    const tracker = app.extensionManager.workflow.activeWorkflow?.changeTracker;
    if (tracker?.captureCanvasState) tracker.captureCanvasState();
    else tracker?.checkState();
    widgetOf(node, name).value = value;
    tracker?.beforeChange();
    node.setDirtyCanvas(true, true);
    for (let frame = 0; frame < FRAMES_TO_SETTLE; frame++) await new Promise(requestAnimationFrame);
    tracker?.afterChange();
}
