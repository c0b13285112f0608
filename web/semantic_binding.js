/* Shows on the nodes what they understood or measured. Nothing of a panel is saved or sent; what is changed on one is
   written into an input of its node. */

import { app } from "../../scripts/app.js";
import { BindingPanel } from "./binding_panel.js";
import { attachPanel, takePlace } from "./node_panel.js";
import { textPanel } from "./text_panel.js";
import { LivePanel } from "./viewer/live.js";
import { attachViewer } from "./viewer/panel.js";
import { weightsPanel } from "./weights_panel.js";

const PANELS = {
    SBAssignMask: textPanel("Mask of an entity", "Run the workflow to see what the mask covers."),
    SBAssignMasks: textPanel("Masks of the entities", "Run the workflow to see what the masks cover."),
    SBMasksFromAttention: textPanel("Masks of the entities", "Run the workflow to see what the masks cover."),
    SBMasksFromBoxes: textPanel("Boxes of the entities", "Run the workflow to see whose box is where."),
    SBDetectEntities: textPanel("What was found", "Run the workflow to see which entities are in the picture."),
    SBLoadSAM: textPanel("Which model it is", "Run the workflow to see which model the file holds."),
    SBSegmentEntities: textPanel("Masks of the entities", "Run the workflow to see what the masks cover."),
    SBObjectFocusedAttention: textPanel("What is kept apart", "Run the workflow to see which entities are kept apart."),
    SBStageWeights: weightsPanel,
    SBAttentionModulation: weightsPanel,
    SBTokenMerge: textPanel("What is merged", "Run the workflow to see the composite tokens and the simplified prompt."),
    SBTokenArithmetic: textPanel("What stands in its place", "Run the workflow to see the sum as it was read."),
    SBTokenOptimization: textPanel("What is optimised", "Run the workflow to see the phrase each token is to mean."),
    SBAttentionGuidance: textPanel("Whom it guides", "Run the workflow to see which entities it acts on."),
    SBStructuredConditioning: textPanel("Phrases encoded alone", "Run the workflow to see the noun phrases."),
    SBComposeNoise: textPanel("What is added up", "Run the workflow to see the parts and their weights."),
    SBLoadSubjectAdapter: textPanel("What is in the file", "Run the workflow to see what the checkpoint holds."),
    SBEntitySubject: textPanel("Pictures of the subject", "Run the workflow to see which pictures count."),
    SBSubjectInjection: textPanel("Whose place they take", "Run the workflow to see which entities get subjects."),
    SBScoreBinding: textPanel("Binding score", "Run the workflow to see the score."),
    SBLoadJudge: textPanel("Which model it is", "Run the workflow to see how large it is."),
    SBJudgeBinding: textPanel("The judge's answers", "Run the workflow to see the questions and the answers."),
    SBScoreAttention: textPanel("Predicted score", "Run the workflow to see which picture is the best."),
    SBSaveAttention: textPanel("Saved file", "Run the workflow to see the file's name."),
    SBTrainingData: textPanel("What the folder holds", "Run the workflow to see which pictures and masks there are."),
    SBSaveTrainingData: textPanel("What was written", "Run the workflow to see the names of the pictures."),
    SBTrainTokenCompose: textPanel("The LoRA", "Run the workflow to train; progress is shown below."),
    SBLoadCaptioner: textPanel("Which model it is", "Run the workflow to see how large it is."),
    SBTrainCoMat: textPanel("The LoRA", "Run the workflow to train; progress is shown below."),
};

const BINDERS = ["SBBindPrompt", "SBBindConditioning"];
const VIEWER = "SBPreviewAttention";

/* The address of a file that a node has written. */
function urlOf(file) {
    return app.api.apiURL(`/view?${new URLSearchParams(file)}`);
}

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

/* The node that the server means by an execution id such as "12:3": node 3 in the subgraph that node 12 stands for. */
function nodeOfExecution(id) {
    let graph = app.rootGraph;
    let node = null;
    for (const part of String(id).split(":")) {
        node = graph?.nodes.find((candidate) => String(candidate.id) === part);
        graph = node?.subgraph;
    }
    return node;
}

/* A run has begun, and these are the weights of its steps. */
function showStageWeights({ detail }) {
    const output = { semantic_binding_weights: [detail.curves], stage_weights: detail };
    nodeOfExecution(detail.node)?.semanticBindingPanel?.show(output);
}

/* A step of a run is over, and this is the attention in it. */
function showAttentionStep({ detail }) {
    const node = nodeOfExecution(detail.node);
    if (!node) return;
    node.semanticBindingLive ??= new LivePanel(node, urlOf);
    node.semanticBindingLive.show(detail);
}

app.registerExtension({
    name: "SemanticBinding",

    setup() {
        for (const file of ["./semantic_binding.css", "./viewer/viewer.css"]) {
            const sheet = document.createElement("link");
            sheet.rel = "stylesheet";
            sheet.href = new URL(file, import.meta.url).href;
            document.head.append(sheet);
        }
        app.api.addEventListener("semantic_binding.stage_weights", showStageWeights);
        app.api.addEventListener("semantic_binding.attention_step", showAttentionStep);
    },

    nodeCreated(node) {
        const panel = PANELS[node.comfyClass];
        if (panel) attachPanel(node, panel);
        if (BINDERS.includes(node.comfyClass)) attachPanel(node, new BindingPanel(node));
        if (node.comfyClass === VIEWER) attachViewer(node, urlOf);
    },

    /* Also called when undo and redo have made every node anew, without a run. */
    loadedGraphNode(node) {
        if (!node.semanticBindingPanel) return;
        takePlace(node);
        const output = app.nodeOutputs[outputKey(node)];
        if (output) node.semanticBindingPanel.show(output);
    },

    /* Called when a run is opened from the history and when the user comes back to an open workflow. */
    onNodeOutputsUpdated(outputs) {
        for (const node of everyNode(app.rootGraph)) {
            const output = outputs[outputKey(node)];
            if (output) node.semanticBindingPanel?.show(output);
        }
    },
});
