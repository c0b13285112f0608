/* The words at one place of the picture, those that look there most first, each with its value and a bar. */

import { element } from "../node_panel.js";
import { short } from "./numbers.js";

const HINT = "Point at the picture: the words that attend to that place are ranked here.";

export class Ranking {
    constructor() {
        this.list = element("ol", { class: "sb-ranked" });
        this.told = element("p", { class: "sb-hint", role: "status" }, HINT);
        const label = "Words at the place pointed at";
        const frame = { class: "sb-ranking", role: "region", "aria-label": label, tabindex: "0", "data-capture-wheel": "true" };
        this.element = element("div", frame, this.told, this.list);
    }

    draw(run, styles, point, values) {
        this.told.textContent = point ? `Row ${point.row + 1}, column ${point.column + 1} of ${run.latent_size.join(" × ")}` : HINT;
        const order = values.map((_, label) => label).sort((a, b) => values[b] - values[a]);
        const most = values[order[0]];
        this.list.replaceChildren(
            ...order.map((label) => {
                const bar = element("span", { class: "sb-value-bar", "aria-hidden": "true" });
                bar.style.width = `${most > 0 ? (100 * values[label]) / most : 0}%`;
                const name = element("span", { class: "sb-value-name" }, run.labels[label]);
                return element("li", { style: styles[label] }, name, element("span", { class: "sb-value" }, short(values[label])), bar);
            }),
        );
    }
}
