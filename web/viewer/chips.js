/* The recorded words as chips in the colours of their entities: to point at, to pin, and to walk along by arrow keys. */

import { makeStop, walk } from "../arrow_keys.js";
import { element } from "../node_panel.js";

const GOLDEN_ANGLE = 137.5;

/* The style of each label: the hue of its entity, in the order in which Bind Prompt colours them; "" for none. */
export function stylesOf({ entities }) {
    const named = [...new Set(entities.filter(Boolean))];
    return entities.map((entity) => (entity ? `--sb-hue: ${(210 + named.indexOf(entity) * GOLDEN_ANGLE) % 360}` : ""));
}

/* `on` has `hover(label)` and `leave(label)`, for a pointer and for the keyboard's focus, and `pin(label)`. */
export class Chips {
    constructor(on) {
        this.on = on;
        this.element = element("div", {
            class: "sb-chips",
            role: "toolbar",
            "aria-label": "Recorded words",
            "data-capture-wheel": "true",
        });
        this.element.addEventListener("keydown", (event) => walk(event, this.chips));
    }

    fill(run) {
        const styles = stylesOf(run);
        this.chips = run.labels.map((name, label) => this.chip(name, label, styles[label]));
        this.chips[0].tabIndex = 0;
        this.element.replaceChildren(...this.chips);
    }

    /* Chips that scroll past a pointer at rest are entered but not moved over, and do not take the keyboard's place. */
    chip(name, label, style) {
        const chip = element("button", { type: "button", class: "sb-chip", style, tabindex: "-1", "aria-pressed": "false" }, name);
        chip.addEventListener("pointermove", ({ pointerType }) => pointerType === "touch" || this.on.hover(label));
        chip.addEventListener("pointerleave", () => this.on.leave(label));
        chip.addEventListener("focus", () => this.focused(chip, label));
        chip.addEventListener("blur", () => this.on.leave(label));
        chip.addEventListener("click", () => this.on.pin(label));
        return chip;
    }

    focused(chip, label) {
        makeStop(chip, this.chips);
        if (chip.matches(":focus-visible")) this.on.hover(label);
    }

    draw({ pins, hovered }) {
        this.chips.forEach((chip, label) => {
            chip.setAttribute("aria-pressed", String(pins.includes(label)));
            chip.classList.toggle("sb-hovered", label === hovered);
        });
    }
}
