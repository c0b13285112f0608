/* The viewer of Preview Attention: pictures with heat maps, the words as chips, a ranking, and controls. */

import { element } from "../node_panel.js";
import { NotThere } from "./atlas.js";
import { Chips, stylesOf } from "./chips.js";
import { Controls } from "./controls.js";
import { drawnSize, greyed, paletteOf } from "./drawing.js";
import { fetchPictureOf } from "./maps.js";
import { short, stepsText } from "./numbers.js";
import { Ranking } from "./ranking.js";
import { rangeOf } from "./resample.js";
import { download, Stage } from "./stage.js";
import { MOST_PINS, State } from "./state.js";

const PICTURE_ALONE = "Picture. Point at a word, or click it to pin its map.";

/* `urlOf(file)` makes the address of a {filename, subfolder, type}. */
export class Viewer {
    constructor(urlOf) {
        this.urlOf = urlOf;
        this.state = new State(() => this.draw());
        this.stages = Array.from({ length: MOST_PINS }, () => new Stage(this.pointing()));
        this.chips = new Chips({
            hover: (hovered) => this.state.set({ hovered }),
            leave: (label) => this.state.hovered === label && this.state.set({ hovered: null }),
            pin: (label) => this.state.pin(label),
        });
        this.ranking = new Ranking();
        this.controls = new Controls(this.state, () => this.save());
        this.sheet = element("div", { class: "sb-sheet", tabindex: "0", role: "region", "aria-label": "Sheet" });
        this.message = element("p", { class: "sb-hint", role: "status" });
        this.views = element("div", { class: "sb-views" }, ...this.stages.map((stage) => stage.element));
        this.body = element("div", { class: "sb-viewed" }, this.views, this.ranking.element);
        this.parts = [this.body, this.sheet, this.chips.element, this.controls.element];
        this.element = element("div", { class: "sb-viewer-body" }, this.message, ...this.parts);
        this.say("Run the workflow to look at the maps.");
    }

    /* Shows a run: the description of what its node wrote, and the files of its sheets. */
    show(run, sheets) {
        this.state.begin(run, this.run);
        this.run = run;
        this.palette = paletteOf(run.palette);
        this.styles = stylesOf(run);
        this.fetched = new Map();
        this.chips.fill(run);
        this.controls.fill(run);
        this.sheet.replaceChildren(...sheets.map((file) => sheetLink(this.urlOf(file))));
        const stops = paletteStops(this.palette);
        this.element.style.setProperty("--sb-palette", `linear-gradient(to right, ${stops.join(", ")})`);
        this.say("Fetching the maps …");
    }

    /* The viewer is not needed any more. */
    end() {
        this.controls.stop();
        this.run = null;
    }

    say(text) {
        this.message.textContent = text;
        this.message.hidden = !text;
        for (const part of this.parts) part.hidden = Boolean(text);
    }

    pointing() {
        return {
            size: () => this.run.latent_size,
            current: () => this.state.point,
            at: (cell) => this.state.set({ cell }),
            leave: () => this.state.set({ cell: null }),
            fix: (cell) => this.state.set({ cell, fixed: same(cell, this.state.fixed) ? null : cell }),
        };
    }

    /* The maps of the chosen picture, or null while they are being fetched. */
    get maps() {
        const { run, fetched, state } = this;
        const { picture } = state;
        if (!fetched.has(picture)) {
            const { type, subfolder } = run;
            fetched.set(picture, null);
            fetchPictureOf(run, (filename) => this.urlOf({ filename, subfolder, type }), picture)
                .then((maps) => fetched.set(picture, { maps, grey: maps.image && greyed(maps.image) }))
                .catch((error) => fetched.set(picture, { problem: told(error) }))
                .then(() => this.run === run && state.set({}));
        }
        return fetched.get(picture);
    }

    draw() {
        if (!this.run) return;
        const found = this.maps;
        this.say(found ? (found.problem ?? "") : "Fetching the maps …");
        if (!found || found.problem) return;
        const { state } = this;
        this.body.hidden = state.sheet;
        this.sheet.hidden = !state.sheet;
        const shown = state.shown.length ? state.shown : [null];
        this.stages.forEach((stage, index) => {
            stage.element.hidden = index >= shown.length;
            if (index < shown.length) stage.draw(this.view(found, shown[index]), drawnSize(this.run.image_size));
        });
        this.chips.draw(state);
        this.controls.draw();
        const values = state.point ? found.maps.valuesAt(state.point, state.step, state.layers) : [];
        this.ranking.draw(this.run, this.styles, state.point, values);
    }

    /* What a stage shows: a word's map, without one who looks at the place pointed at, or the picture. */
    view(found, label) {
        const { state, run } = this;
        const { maps, grey } = found;
        const { point, opacity } = state;
        const size = run.latent_size;
        if (label === null) {
            const map = point && maps.lookers(point, (error) => this.arrived(found, error));
            if (!map) return { picture: maps.image, heat: null, point, size, title: PICTURE_ALONE };
            const range = state.scale === "absolute" ? [0, 1] : rangeOf(map);
            const heat = { map, range, palette: this.palette, opacity };
            return { picture: grey, heat, point, size, title: "Patches that look here", ends: range.map(short) };
        }
        const map = maps.heatMap(label, state.step, state.layers);
        const range = this.range(maps, map);
        const heat = { map, range, palette: this.palette, opacity };
        const title = `${run.labels[label]}, ${stepsText(run.steps[state.step], run.steps_of_run)}`;
        return { picture: grey, heat, point, size, title, ends: range.map(short) };
    }

    arrived(found, error) {
        if (error) found.problem = told(error);
        this.state.set({});
    }

    range(maps, map) {
        const { scale, layers } = this.state;
        if (scale === "absolute") return [0, 1];
        return scale === "shared" ? maps.commonRange(layers) : rangeOf(map);
    }

    save() {
        const shown = this.stages.filter((stage) => !stage.element.hidden);
        const words = this.state.shown.map((label) => this.run.labels[label].replace(/[^\p{L}\p{N}]+/gu, "_"));
        download(shown, ["attention", ...words].join(" "));
    }
}

function same(one, other) {
    return one?.row === other?.row && one?.column === other?.column;
}

function told(error) {
    if (error instanceof NotThere) return error.message;
    return `The maps could not be read (${error.message}). Run the workflow again.`;
}

function sheetLink(url) {
    const link = element("a", { href: url, target: "_blank", rel: "noopener", title: "Open in a tab of its own" });
    link.append(element("img", { src: url, alt: "Sheet of all maps", loading: "lazy" }));
    return link;
}

function paletteStops(palette) {
    const at = (colour) => `rgb(${palette.slice(3 * colour, 3 * colour + 3).join(" ")})`;
    return Array.from({ length: 18 }, (_, index) => at(15 * index));
}
