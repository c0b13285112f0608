/* The maps of the step just done, one small picture for each word, on a node that records a run which goes on. */

import { addToNode, element, growToFit } from "../node_panel.js";
import { fetchMaps } from "./atlas.js";
import { stylesOf } from "./chips.js";
import { coloured, paletteOf } from "./drawing.js";
import { short } from "./numbers.js";
import { rangeOf } from "./resample.js";

const MOST_HEIGHT = 260;
const DRAWN = 96;

/* The panel comes with the first step that is shown; a node that is not asked for it stays as it is. */
export class LivePanel {
    constructor(node, urlOf) {
        this.urlOf = urlOf;
        this.title = element("p", { class: "sb-small", role: "status" });
        this.maps = element("div", { class: "sb-live-maps" });
        this.body = element("div", { class: "sb-body" }, this.title, this.maps);
        const label = "Attention of the step just done";
        const frame = { class: "sb-panel sb-live", role: "region", "aria-label": label, tabindex: "0", "data-capture-wheel": "true" };
        this.node = node;
        addToNode(node, element("div", frame, this.body), {
            height: () => Math.min(MOST_HEIGHT, this.body.offsetHeight),
            show: () => {},
            removed: () => {},
        });
    }

    /* Steps may arrive faster than they are fetched: only the newest is drawn. */
    async show(done) {
        this.newest = done;
        const { file: filename, type, subfolder, labels, size } = done;
        const found = await fetchMaps(this.urlOf({ filename, type, subfolder }), labels.length, size).catch((error) => error);
        if (this.newest !== done) return;
        this.title.textContent = found instanceof Error ? found.message : `Step ${done.step + 1} of ${done.steps}, first picture`;
        if (!(found instanceof Error)) this.draw(done, found);
    }

    draw({ labels, size, palette: encoded, entities }, map) {
        const styles = stylesOf({ entities });
        const palette = paletteOf(encoded);
        this.maps.replaceChildren(...labels.map((name, label) => figure(name, styles[label], map(label), size, palette)));
        growToFit(this.node);
    }
}

function figure(name, style, map, size, palette) {
    const [height, width] = size;
    const range = rangeOf(map);
    const factor = DRAWN / Math.max(height, width);
    const canvas = element("canvas", { width: Math.round(width * factor), height: Math.round(height * factor), role: "img" });
    canvas.setAttribute("aria-label", `${name}: ${range.map(short).join(" to ")}`);
    canvas.getContext("2d").drawImage(coloured(map, size, range, palette), 0, 0, canvas.width, canvas.height);
    const caption = element("figcaption", {}, element("span", { class: "sb-live-word", style }, name), ` to ${short(range[1])}`);
    return element("figure", { class: "sb-live-map" }, canvas, caption);
}
