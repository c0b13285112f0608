/* What Bind Prompt and Bind Conditioning understood: the prompt with its entities marked, and every token's row. */

import { element } from "./node_panel.js";

const ENCODERS = { l: "CLIP-L", g: "CLIP-G", h: "CLIP-H" };
const GOLDEN_ANGLE = 137.5;

export const bindingPanel = {
    label: "What was understood of the prompt",
    hint: "Run the workflow to see which words belong together.",
    render(output) {
        const payload = output?.semantic_binding?.[0];
        return payload ? bindingElements(JSON.parse(payload)) : null;
    },
};

function bindingElements(binding) {
    const groups = binding.entities.map((entity, index) => ({
        entity,
        style: `--sb-hue: ${(210 + index * GOLDEN_ANGLE) % 360}`,
        phrases: [entity.noun, ...entity.attributes, ...entity.sub_objects.map((sub) => sub.phrase)],
    }));
    return [
        markedPrompt(binding.text, groups),
        entityList(groups),
        noteList(binding.notes),
        ...Object.entries(binding.encoders).map(([name, tokens], index) => tokenStrip(name, tokens, groups, index === 0)),
        element("p", { class: "sb-small" }, `Read by: ${binding.parser}`),
    ].filter(Boolean);
}

/* Spans count characters as Python does, by code points, which a JavaScript string does not. */
function markedPrompt(text, groups) {
    const characters = Array.from(text);
    const marks = groups.flatMap(({ entity, style, phrases }) =>
        phrases.flatMap((phrase) => phrase.spans.map(([start, end]) => ({ start, end, style, noun: phrase === entity.noun }))),
    );
    const marked = element("p", { class: "sb-prompt" });
    let done = 0;
    for (const { start, end, style, noun } of marks.sort((a, b) => a.start - b.start || b.end - a.end)) {
        if (start < done) continue;
        marked.append(characters.slice(done, start).join(""));
        marked.append(element("span", { class: noun ? "sb-word sb-noun" : "sb-word", style }, characters.slice(start, end).join("")));
        done = end;
    }
    marked.append(characters.slice(done).join(""));
    return text ? marked : null;
}

function entityList(groups) {
    if (!groups.length) return element("p", { class: "sb-hint" }, "No entities.");
    return element("ul", { class: "sb-entities", "aria-label": "Entities" }, ...groups.map(chip));
}

function chip({ entity, style, phrases }) {
    const name = entity.count > 1 ? `${entity.name} × ${entity.count}` : entity.name;
    const parts = phrases.slice(1).map((phrase) => [" ", element("span", { class: "sb-part" }, phrase.text)]);
    const title = Object.keys(entity.noun.rows)
        .map((encoder) => `${ENCODERS[encoder]} rows ${rowsOf(phrases, encoder).join(", ") || "none"}`)
        .join("\n");
    return element("li", { class: "sb-entity", style, title }, element("span", { class: "sb-noun" }, name), ...parts.flat());
}

function rowsOf(phrases, encoder) {
    return [...new Set(phrases.flatMap((phrase) => phrase.rows[encoder]))].sort((a, b) => a - b);
}

function noteList(notes) {
    return notes.length && element("ul", { class: "sb-notes", "aria-label": "Notes" }, ...notes.map((note) => element("li", {}, note)));
}

function tokenStrip(encoder, tokens, groups, open) {
    const styles = new Map(groups.flatMap(({ style, phrases }) => rowsOf(phrases, encoder).map((row) => [row, style])));
    const rows = [...tokens.text, ...tokens.embedding].sort((a, b) => a - b);
    const chips = tokens.tokens.map(({ piece, weight }, index) => {
        const row = rows[index];
        const title = `row ${row} of ${tokens.length}${weight === 1 ? "" : `, weight ${Number(weight.toFixed(3))}`}`;
        const style = styles.get(row);
        return element(
            "span",
            style ? { class: "sb-token", style, title } : { class: "sb-token", title },
            element("span", { class: "sb-index" }, String(row)),
            piece,
        );
    });
    const heading = `${ENCODERS[encoder]}: ${chips.length} tokens with their rows`;
    const details = element("details", { class: "sb-tokens" }, element("summary", { class: "sb-small" }, heading));
    details.open = open;
    details.append(element("div", { class: "sb-strip" }, ...chips));
    return details;
}
