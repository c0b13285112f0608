/* What Bind Prompt and Bind Conditioning understood: the prompt with its entities marked, and every token's row. Words are
   given to other entities by mouse, finger and keyboard; what is changed is written into the node's input `entities`. */

import { makeStop, walk } from "./arrow_keys.js";
import { entityList, groupsOf, markedPrompt } from "./binding_chips.js";
import { give, keyOf, letGo, makeOwn, partAt, partsOf } from "./binding_edit.js";
import { dragging } from "./chip_drag.js";
import { openMenu } from "./choice_menu.js";
import { element } from "./node_panel.js";
import { tokenStrips } from "./token_strip.js";
import { remember, understood } from "./understood.js";
import { watch, write } from "./widget_edit.js";

const OWN = "own";
const NONE = "none";
const EDITED = "Changed here, and written into entities. It counts from the next run on.";

export class BindingPanel {
    label = "What was understood of the prompt";
    hint = "Run the workflow to see which words belong together.";

    constructor(node) {
        this.node = node;
        this.open = {};
        for (const name of ["text", "entities"]) watch(node, name, () => this.refresh());
    }

    render(output) {
        const payload = output?.semantic_binding?.[0];
        if (!payload) return null;
        if (payload !== this.payload) {
            this.payload = payload;
            this.entities = output.semantic_binding_entities[0];
            this.ofRun = JSON.parse(payload);
            remember(this.ofRun, this.entities);
        }
        this.output = output;
        this.shown = understood(this.node, this.ofRun, this.entities);
        return this.elements();
    }

    /* An input was set: shows what belongs to it. */
    refresh() {
        if (!this.output) return;
        const { record, locked } = understood(this.node, this.ofRun, this.entities);
        if (record !== this.shown.record || locked !== this.shown.locked) this.node.semanticBindingPanel.show(this.output);
    }

    elements() {
        const { record, locked } = this.shown;
        const groups = groupsOf(record);
        const prompt = markedPrompt(record, groups, !locked);
        const list = entityList(record, groups, !locked);
        if (!locked) for (const words of [prompt, list]) this.makeMovable(words);
        return [
            prompt,
            list,
            locked && element("p", { class: "sb-hint" }, locked),
            record.edited && element("p", { class: "sb-hint" }, EDITED),
            noteList(record.notes),
            ...tokenStrips(record, groups, this.open),
            element("p", { class: "sb-small" }, `Read by: ${this.ofRun.parser}`),
            !locked && dropTargets(),
        ].filter(Boolean);
    }

    makeMovable(words) {
        const picks = [...(words?.querySelectorAll(".sb-pick") ?? [])];
        if (!picks.length) return;
        makeStop(picks[0], picks);
        words.addEventListener("focusin", ({ target }) => picks.includes(target) && makeStop(target, picks));
        words.addEventListener("keydown", (event) => this.key(event, picks));
        dragging(words, {
            clicked: (pick) => this.choose(pick),
            dropped: (pick, target) => this.move(pick, target.dataset.entity),
        });
    }

    key(event, picks) {
        if (event.ctrlKey || event.metaKey) return;
        if (event.key === "Enter" || event.key === " ") {
            event.preventDefault();
            this.choose(event.target);
        } else if (event.key === "Delete" || event.key === "Backspace") {
            this.move(event.target, NONE);
        } else {
            walk(event, picks);
        }
        if (event.key !== "Tab") event.stopPropagation();
    }

    choose(pick) {
        const part = this.partOf(pick);
        if (!part) return;
        const owner = ownerOf(part);
        const entities = this.shown.record.entities
            .filter((entity) => entity !== part.item)
            .map(({ noun, name }) => ({ value: keyOf(noun), label: `Of ${name}` }));
        const others = [
            { value: OWN, label: "An entity of its own" },
            { value: NONE, label: "Of no entity" },
        ];
        openMenu(pick, {
            label: part.phrase.text,
            question: part.item.doubt,
            choices: [...entities, ...others].map((choice) => ({ ...choice, checked: choice.value === owner })),
            chosen: (value) => this.move(pick, value),
        });
    }

    /* To the entity with this key, to be one of its own, or to be of none. What was doubtful is certain once it is chosen. */
    move(pick, target) {
        const part = this.partOf(pick);
        if (!part) return;
        const onItself = part.kind === "noun" && target === part.of;
        if (onItself || (target === ownerOf(part) && !part.item.doubt)) return;
        const edited = this.edited(part, target);
        const inPrompt = Boolean(pick.closest(".sb-prompt"));
        remember(edited, edited.edited);
        write(this.node, "entities", edited.edited);
        this.focus(part.item.noun ?? part.phrase, inPrompt);
    }

    edited(part, target) {
        const { record } = this.shown;
        if (target === OWN) return makeOwn(record, part);
        return target === NONE ? letGo(record, part) : give(record, part, target);
    }

    partOf(pick) {
        return partsOf(this.shown.record).find(({ key }) => key === pick.dataset.part);
    }

    focus(phrase, inPrompt) {
        const key = partAt(this.shown.record, phrase.spans[0][0])?.key;
        const picks = [...this.node.semanticBindingPanel.frame.querySelectorAll(`[data-part="${key}"]`)];
        const there = picks.find((pick) => Boolean(pick.closest(".sb-prompt")) === inPrompt) ?? picks[0];
        there?.focus({ preventScroll: true });
    }
}

function ownerOf({ kind, of }) {
    return kind === "noun" ? OWN : (of ?? NONE);
}

function noteList(notes) {
    const items = notes.map((note) => element("li", {}, note));
    return notes.length && element("ul", { class: "sb-notes", "aria-label": "Notes" }, ...items);
}

/* Shown while a word is dragged. */
function dropTargets() {
    const target = (value, text) => element("span", { class: "sb-target", "data-entity": value }, text);
    const targets = [target(OWN, "an entity of its own"), target(NONE, "of no entity")];
    return element("p", { class: "sb-targets", "aria-hidden": "true" }, ...targets);
}
