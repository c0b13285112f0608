/* The viewer's controls: picture, kept step with play, layers, scale, opacity, the sheet, and the download. */

import { element } from "../node_panel.js";
import { ALL_LAYERS } from "./maps.js";
import { stepsText } from "./numbers.js";

const SCALES = { "each map": "each map's own", shared: "common to all", absolute: "0 to 1" };
const STEP_MILLISECONDS = 500;

export class Controls {
    constructor(state, save) {
        this.state = state;
        this.save = save;
        this.element = element("div", { class: "sb-controls", role: "group", "aria-label": "What is shown" });
    }

    fill(run) {
        this.stop();
        const { state } = this;
        this.run = run;
        const pictures = run.grids[0].files.map((_, index) => [index, `${index + 1} of ${run.latents}`]);
        const layers = run.grids.map((grid, index) => [index, `${grid.size.join(" × ")} (${counted(grid.layers)})`]);
        this.picture = choice(pictures, (value) => state.set({ picture: Number(value) }));
        this.layers = choice([[ALL_LAYERS, "all"], ...layers], (value) => state.set({ layers: Number(value) }));
        this.scale = choice(Object.entries(SCALES), (scale) => state.set({ scale }));
        this.opacity = slider(1, 0.05, (opacity) => state.set({ opacity }));
        this.step = slider(run.steps.length - 1, 1, (step) => {
            this.stop();
            state.set({ step });
        });
        this.stepText = element("span", { class: "sb-step-text" });
        this.play = button("Play", () => (this.playing ? this.stop() : this.start()));
        this.sheet = button("Sheet", () => state.set({ sheet: !state.sheet }));
        this.sheet.title = "The labelled sheet that the overlays output gives";
        this.element.replaceChildren(
            ...(run.latents > 1 ? [labelled("Picture", this.picture)] : []),
            ...(run.steps.length > 1 ? [labelled("Step", this.step, this.stepText), this.play] : []),
            ...(run.grids.length > 1 ? [labelled("Layers", this.layers)] : []),
            labelled("Scale", this.scale),
            labelled("Opacity", this.opacity),
            this.sheet,
            button("Save PNG", this.save),
        );
    }

    start() {
        const { state, run } = this;
        this.playing = setInterval(() => state.set({ step: (state.step + 1) % run.steps.length }), STEP_MILLISECONDS);
        state.set({});
    }

    stop() {
        clearInterval(this.playing);
        this.playing = undefined;
        this.state.set({});
    }

    draw() {
        const { state, run } = this;
        for (const name of ["picture", "step", "layers", "scale", "opacity"]) this[name].value = state[name];
        const told = stepsText(run.steps[state.step], run.steps_of_run);
        this.stepText.textContent = told;
        this.step.setAttribute("aria-valuetext", told);
        this.play.textContent = this.playing ? "Pause" : "Play";
        this.sheet.setAttribute("aria-pressed", String(state.sheet));
    }
}

function counted(layers) {
    return layers === 1 ? "1 layer" : `${layers} layers`;
}

function labelled(text, control, ...beside) {
    control.setAttribute("aria-label", text);
    return element("label", { class: "sb-control" }, text, control, ...beside);
}

function choice(options, chosen) {
    const made = element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
    made.addEventListener("change", () => chosen(made.value));
    return made;
}

function slider(max, step, moved) {
    const made = element("input", { type: "range", min: 0, max, step });
    made.addEventListener("input", () => moved(Number(made.value)));
    return made;
}

function button(text, pressed) {
    const made = element("button", { type: "button", class: "sb-button" }, text);
    made.addEventListener("click", pressed);
    return made;
}
