/* One large picture of the viewer with its heat map, its caption and its colour bar, and the pointing at places in it. */

import { element } from "../node_panel.js";
import { composed, drawView } from "./drawing.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const LARGE_STEP = 8;

/* `pointing` has `size()`, the rows and columns of the grid that is pointed at, `at(cell)` while a pointer or a key is
   there, `fix(cell)` where it was clicked, and `leave()`; `current()` is the cell that is pointed at, or null. */
export class Stage {
    constructor(pointing) {
        this.pointing = pointing;
        this.canvas = element("canvas", {
            class: "sb-picture",
            tabindex: "0",
            role: "application",
            "aria-roledescription": "picture to point at",
        });
        this.name = element("span", { class: "sb-shown" });
        this.low = element("span", { class: "sb-end" });
        this.high = element("span", { class: "sb-end" });
        this.bar = element("span", { class: "sb-scale", "aria-hidden": "true" }, this.low, element("span", { class: "sb-bar" }), this.high);
        this.element = element("figure", { class: "sb-stage" }, this.canvas, element("figcaption", {}, this.name, this.bar));
        this.listen();
    }

    /* `view` is as drawView takes it, with the `title` of what is shown, and `ends`, the texts at the ends of its scale. */
    draw(view, { width, height }) {
        if (this.canvas.width !== width) this.canvas.width = width;
        if (this.canvas.height !== height) this.canvas.height = height;
        drawView(this.canvas, view);
        this.name.textContent = view.title;
        this.bar.classList.toggle("sb-none", !view.ends);
        [this.low.textContent, this.high.textContent] = view.ends ?? ["", ""];
        this.canvas.setAttribute("aria-label", `${view.title}. Arrow keys point at places, Enter keeps one, Escape lets it go.`);
        this.caption = view.ends ? `${view.title}: ${view.ends.join(" to ")}` : view.title;
    }

    listen() {
        const { canvas, pointing } = this;
        canvas.addEventListener("pointermove", (event) => pointing.at(this.cellAt(event)));
        canvas.addEventListener("pointerdown", (event) => {
            pointing.at(this.cellAt(event));
        });
        canvas.addEventListener("click", (event) => {
            const cell = this.cellAt(event);
            if (cell) pointing.fix(cell);
        });
        canvas.addEventListener("pointerleave", () => pointing.leave());
        canvas.addEventListener("blur", () => pointing.leave());
        canvas.addEventListener("keydown", (event) => this.press(event));
    }

    press(event) {
        const [rows, columns] = this.pointing.size();
        const cell = this.pointing.current();
        if (event.key in STEPS) {
            const [down, across] = STEPS[event.key].map((step) => step * (event.shiftKey ? LARGE_STEP : 1));
            const from = cell ?? { row: Math.floor(rows / 2) - down, column: Math.floor(columns / 2) - across };
            const within = (place, count) => Math.min(count - 1, Math.max(0, place));
            this.pointing.at({ row: within(from.row + down, rows), column: within(from.column + across, columns) });
        } else if (event.key === "Enter" && cell) {
            this.pointing.fix(cell);
        } else if (event.key === "Escape") {
            this.pointing.fix(null);
        } else {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
    }

    /* The cell under the pointer, or null beside the picture, which fits into the canvas element in its own shape. */
    cellAt({ clientX, clientY }) {
        const { canvas } = this;
        const frame = canvas.getBoundingClientRect();
        const factor = Math.min(frame.width / canvas.width, frame.height / canvas.height);
        const across = 0.5 + (clientX - frame.left - frame.width / 2) / (canvas.width * factor);
        const down = 0.5 + (clientY - frame.top - frame.height / 2) / (canvas.height * factor);
        const [rows, columns] = this.pointing.size();
        const cell = { row: Math.floor(down * rows), column: Math.floor(across * columns) };
        return cell.row >= 0 && cell.row < rows && cell.column >= 0 && cell.column < columns ? cell : null;
    }
}

/* Saves what the stages show as one PNG file. */
export function download(stages, name) {
    composed(stages).toBlob((blob) => {
        const link = element("a", { download: `${name}.png`, href: URL.createObjectURL(blob) });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
}
