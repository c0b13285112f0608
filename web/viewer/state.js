/* What a viewer shows just now. It lives as long as the node's panel, and is neither saved nor sent. */

import { ALL_LAYERS } from "./maps.js";

export const MOST_PINS = 2;

/* `changed` is called once per frame in which something was changed. */
export class State {
    constructor(changed) {
        this.changed = changed;
        this.picture = 0;
        this.step = 0;
        this.layers = ALL_LAYERS;
        this.pins = [];
        this.hovered = null;
        this.cell = null;
        this.fixed = null;
        this.sheet = false;
    }

    set(values) {
        Object.assign(this, values);
        this.frame ??= requestAnimationFrame(() => {
            this.frame = undefined;
            this.changed();
        });
    }

    /* A new run, after the one `before`: what was chosen stays where this one has it too, and its node asks the same. */
    begin(run, before) {
        const pins = this.pins.map((label) => run.labels.indexOf(before.labels[label])).filter((label) => label >= 0);
        this.set({
            pins,
            picture: Math.min(this.picture, run.latents - 1),
            step: Math.min(this.step, run.steps.length - 1),
            layers: this.layers < run.grids.length ? this.layers : ALL_LAYERS,
            hovered: null,
            cell: null,
            fixed: null,
            scale: run.normalisation === before?.normalisation ? this.scale : run.normalisation,
            opacity: run.opacity === before?.opacity ? this.opacity : run.opacity,
        });
    }

    pin(label) {
        const others = this.pins.filter((pinned) => pinned !== label);
        this.set({ pins: others.length < this.pins.length ? others : [...others, label].slice(-MOST_PINS) });
    }

    /* The words whose maps are shown, side by side: one that is hovered takes the place of the last pin. */
    get shown() {
        if (this.hovered === null || this.pins.includes(this.hovered)) return this.pins;
        return [...this.pins.slice(0, -1), this.hovered];
    }

    get point() {
        return this.cell ?? this.fixed;
    }
}
