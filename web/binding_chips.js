/* The prompt with its entities marked, and a chip for each entity. Words that can be moved are marked as such. */

import { keyOf, partsOf } from "./binding_edit.js";
import { element } from "./node_panel.js";
import { ENCODERS, rowsOf } from "./token_strip.js";

const GOLDEN_ANGLE = 137.5;

/* Each entity with its colour and the phrases of its group. */
export function groupsOf({ entities }) {
    return entities.map((entity, index) => ({
        entity,
        style: `--sb-hue: ${(210 + index * GOLDEN_ANGLE) % 360}`,
        phrases: [entity.noun, ...entity.attributes, ...entity.sub_objects.map((sub) => sub.phrase)],
    }));
}

/* Spans count characters as Python does, by code points, which a JavaScript string does not. */
export function markedPrompt(record, groups, movable) {
    const characters = Array.from(record.text);
    const styles = new Map(groups.map(({ entity, style }) => [keyOf(entity.noun), style]));
    const marks = partsOf(record)
        .filter((part) => part.of || movable)
        .flatMap((part) => part.phrase.spans.map(([start, end]) => ({ start, end, part })));
    const marked = element("p", { class: "sb-prompt", role: "group", "aria-label": "Words of the prompt" });
    let done = 0;
    for (const { start, end, part } of marks.sort((a, b) => a.start - b.start || b.end - a.end)) {
        if (start < done) continue;
        marked.append(characters.slice(done, start).join(""));
        const word = pick(part, record, movable, characters.slice(start, end).join(""));
        if (part.of) word.classList.add("sb-word");
        if (part.of) word.setAttribute("style", styles.get(part.of));
        marked.append(word);
        done = end;
    }
    marked.append(characters.slice(done).join(""));
    return record.text ? marked : null;
}

export function entityList(record, groups, movable) {
    if (!groups.length) return element("p", { class: "sb-hint" }, "No entities.");
    const parts = partsOf(record);
    const of = ({ entity }) => parts.filter((part) => part.of === keyOf(entity.noun));
    const chips = groups.map((group) => chip(group, of(group), record, movable));
    return element("ul", { class: "sb-entities", "aria-label": "Entities" }, ...chips);
}

function chip({ entity, style, phrases }, [noun, ...others], record, movable) {
    const name = entity.count > 1 ? `${entity.name} × ${entity.count}` : entity.name;
    const title = Object.entries(record.encoders)
        .map(([encoder, tokens]) => `${ENCODERS[encoder]} rows ${rowsOf(phrases, tokens).join(", ") || "none"}`)
        .join("\n");
    const parts = others.flatMap((part) => [" ", chipPart(part, record, movable)]);
    const attributes = { class: "sb-entity", style, title, "data-entity": noun.of };
    return element("li", attributes, pick(noun, record, movable, name), ...parts);
}

function chipPart(part, record, movable) {
    const made = pick(part, record, movable, part.phrase.text);
    made.classList.add("sb-part");
    return made;
}

/* A word to look at, or to move: by its key it is found again among the parts. */
function pick({ key, kind, of, item }, record, movable, text) {
    const made = element("span", { class: `sb-${kind}` }, text);
    if (item.doubt) {
        made.classList.add("sb-doubt");
        made.title = item.doubt;
    }
    if (!movable) return made;
    const owner = record.entities.find(({ noun }) => keyOf(noun) === of)?.name;
    const role = { noun: "entity", free: "of no entity" }[kind] ?? `${kind} of ${owner}`;
    const label = [text, role, item.doubt].filter(Boolean).join(", ");
    const attributes = { role: "button", "aria-haspopup": "menu", "aria-label": label, "data-part": key, tabindex: "-1" };
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.classList.add("sb-pick");
    return made;
}
