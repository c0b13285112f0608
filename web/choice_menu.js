/* A menu of choices of which one is the present one, beside what it is about; by mouse, finger and keyboard. */

import { walk } from "./arrow_keys.js";
import { element } from "./node_panel.js";

const GAP = 4;

let close = () => {};

/* `chosen(value)` is called with the value of a choice; the `question`, if any, stands above them. */
export function openMenu(anchor, { label, question, choices, chosen }) {
    close();
    const items = choices.map(({ value, label: text, checked }) => {
        const state = { role: "menuitemradio", "aria-checked": String(checked), tabindex: "-1" };
        const item = element("button", { type: "button", class: "sb-choice", ...state }, text);
        item.addEventListener("click", () => {
            close();
            chosen(value);
        });
        return item;
    });
    const heading = element("p", { class: "sb-question" }, question || label);
    const menu = element("div", { class: "sb-menu", role: "menu", "aria-label": question || label }, heading, ...items);
    const ended = new AbortController();
    close = () => {
        close = () => {};
        ended.abort();
        const focused = menu.contains(document.activeElement);
        menu.remove();
        if (focused) anchor.focus({ preventScroll: true });
    };
    menu.addEventListener("pointerdown", (event) => event.stopPropagation());
    menu.addEventListener("keydown", (event) => {
        if (event.key === "Escape" || event.key === "Tab") {
            event.preventDefault();
            close();
        } else {
            walk(event, items);
        }
        event.stopPropagation();
    });
    for (const name of ["pointerdown", "wheel", "resize"]) {
        const left = ({ target }) => menu.contains(target instanceof Node ? target : null) || close();
        window.addEventListener(name, left, { capture: true, passive: true, signal: ended.signal });
    }
    document.body.append(menu);
    place(menu, anchor.getBoundingClientRect());
    (items.find((item) => item.ariaChecked === "true") ?? items[0]).focus({ preventScroll: true });
}

/* Below what it is about, or above it where there is more room, within the window. */
function place(menu, { left, top, bottom }) {
    const { width, height } = menu.getBoundingClientRect();
    const below = bottom + GAP + height <= innerHeight || innerHeight - bottom > top;
    menu.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`;
    menu.style.top = `${Math.max(GAP, Math.min(below ? bottom + GAP : top - GAP - height, innerHeight - height - GAP))}px`;
}
