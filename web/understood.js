/* What is known of the prompt on a node just now: what its last run understood, or what was made of that since. */

import { isLinked, widgetOf } from "./widget_edit.js";

const MOST_RECORDS = 100;
const COMMENTS = /\/\*[\s\S]*?\*\/|\/\/.*/g;
const AGAIN = "Run the workflow to see what is understood now.";
const OTHER_PROMPT = `The prompt is not that of this run. ${AGAIN}`;
const OTHER_ENTITIES = `The entities are not those of this run. ${AGAIN}`;
const LINKED = "The entities come from another node, so they cannot be changed here.";

/* By encoders, prompt and text of `entities`, on which a record depends: undo brings back the text, and this the rest. */
const records = new Map();

export function remember(record, entities) {
    const key = keyOf(record, entities);
    records.delete(key);
    records.set(key, record);
    if (records.size > MOST_RECORDS) records.delete(records.keys().next().value);
}

/* The record to show, and `locked`: why it cannot be changed, if so. */
export function understood(node, ofRun, entitiesOfRun) {
    if (isLinked(node, "entities")) return { record: ofRun, locked: LINKED };
    if (!isLinked(node, "text") && sent(widgetOf(node, "text")) !== ofRun.prompt) {
        return { record: ofRun, locked: OTHER_PROMPT };
    }
    const entities = widgetOf(node, "entities").value;
    if (entities === entitiesOfRun) return { record: ofRun };
    const record = records.get(keyOf(ofRun, entities));
    return record ? { record } : { record: ofRun, locked: OTHER_ENTITIES };
}

function keyOf({ encoders, prompt }, entities) {
    return JSON.stringify([Object.keys(encoders), prompt, entities]);
}

/* Of a prompt that may have choices, the frontend sends no comments, and no backslashes before braces and bars. */
function sent({ value, dynamicPrompts }) {
    return dynamicPrompts ? value.replace(COMMENTS, "").replace(/\\([{}|])/g, "$1") : value;
}
