/* Shows on the nodes what they understood or measured. The panels only display: nothing of them is saved or sent. */

import { app } from "../../scripts/app.js";
import { bindingPanel } from "./binding_panel.js";
import { attachPanel } from "./node_panel.js";
import { textPanel } from "./text_panel.js";

const PANELS = {
    SBBindPrompt: bindingPanel,
    SBBindConditioning: bindingPanel,
    SBScoreBinding: textPanel("Binding score", "Run the workflow to see the score."),
    SBSaveAttention: textPanel("Saved file", "Run the workflow to see the file's name."),
};

function* everyNode(graph) {
    for (const node of graph.nodes) {
        yield node;
        if (node.subgraph) yield* everyNode(node.subgraph);
    }
}

/* The key of a node in the frontend's table of outputs: its number, behind the subgraph's id when it stands in one. */
function outputKey(node) {
    return node.graph === app.rootGraph ? String(node.id) : `${node.graph.id}:${node.id}`;
}

app.registerExtension({
    name: "SemanticBinding",

    setup() {
        const sheet = document.createElement("link");
        sheet.rel = "stylesheet";
        sheet.href = new URL("./semantic_binding.css", import.meta.url).href;
        document.head.append(sheet);
    },

    nodeCreated(node) {
        const panel = PANELS[node.comfyClass];
        if (panel) attachPanel(node, panel);
    },

    /* Called when a run is opened from the history and when the user comes back to an open workflow. */
    onNodeOutputsUpdated(outputs) {
        for (const node of everyNode(app.rootGraph)) {
            const output = outputs[outputKey(node)];
            if (output) node.semanticBindingPanel?.show(output);
        }
    },
});
