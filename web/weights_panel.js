/* The weights of Stage Weights and Attention Modulation over the run, as a picture; dots are the steps of a real run. */

import { element } from "./node_panel.js";

const WIDTH = 320;
const HEIGHT = 138;
const LEFT = 42;
const RIGHT = 310;
const TOP = 10;
const BOTTOM = 116;
const USUAL_MAXIMUM = 2;
const CURVES = { words: "words of no entity", entities: "entities' words" };
const ALONE = "In the paper the weights made pictures worse without it.";

export const weightsPanel = {
    label: "Weights over the run",
    hint: "Run the workflow to see the weights of each step.",
    /* A node that need not run again sends its output once more, after the run: the steps stay with their curves. */
    join(output, shown) {
        return sameCurves(output, shown) ? { stage_weights: shown.stage_weights, ...output } : output;
    },
    render(output) {
        if (output?.semantic_binding_weights?.length === 0) return [hint("Stage weights are off.")];
        const plan = output?.stage_weights;
        const curves = output?.semantic_binding_weights?.[0];
        return curves ? [picture(curves, plan), legend(), advice(curves, plan)].filter(Boolean) : null;
    },
};

function sameCurves(...outputs) {
    const [one, other] = outputs
        .map((output) => output?.semantic_binding_weights?.[0])
        .map((curves) => curves && JSON.stringify([curves.words, curves.entities]));
    return one !== undefined && one === other;
}

function hint(text) {
    return element("p", { class: "sb-hint" }, text);
}

/* Whether a run lacks the mask is known when it begins; before that, the mask may still come behind this node. */
function advice(curves, plan) {
    if (plan && !plan.focused) {
        const text = `No Object-Focused Attention in this run: add it to the model, for the same BINDING. ${ALONE}`;
        return element("p", { class: "sb-warning", role: "alert" }, text);
    }
    if (plan || curves.focused) return null;
    return hint("Use it together with Object-Focused Attention, before or after this node.");
}

function picture(curves, plan) {
    const shown = [curves, plan].filter(Boolean).flatMap(({ words, entities }) => [...words, ...entities]);
    const maximum = Math.max(USUAL_MAXIMUM, Math.ceil(Math.max(...shown)));
    const across = (part) => LEFT + part * (RIGHT - LEFT);
    const up = (weight) => BOTTOM - (weight / maximum) * (BOTTOM - TOP);
    const drawing = svg("svg", { class: "sb-weights", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    drawing.append(svg("title", {}, description(curves, plan)), ...axes(maximum, up, plan?.words.length));
    for (const name of Object.keys(CURVES)) {
        const points = curves[name].map((weight, index) => `${across(place(index, curves[name]))},${up(weight)}`);
        drawing.append(svg("polyline", { class: `sb-line sb-of-${name}`, points: points.join(" ") }));
    }
    for (const name of plan ? Object.keys(CURVES) : []) {
        for (const [index, weight] of plan[name].entries()) {
            const dot = { class: `sb-dot sb-of-${name}`, cx: across(place(index, plan[name])), cy: up(weight), r: 2.6 };
            const told = `step ${index + 1} of ${plan[name].length}, ${CURVES[name]}: ${short(weight)}`;
            drawing.append(svg("circle", dot, svg("title", {}, told)));
        }
    }
    return drawing;
}

/* Where in the run, from 0 to 1, a list's value stands; a run of one step is at its beginning. */
function place(index, values) {
    return index / Math.max(1, values.length - 1);
}

function axes(maximum, up, steps) {
    const middle = (LEFT + RIGHT) / 2;
    const [first, last, name] = steps ? ["1", String(steps), `step (${steps} in this run)`] : ["first", "last", "step"];
    const beside = { x: LEFT - 6, "text-anchor": "end", "dominant-baseline": "middle" };
    const below = BOTTOM + 14;
    return [
        svg("path", { class: "sb-axis", d: `M${LEFT},${TOP} V${BOTTOM} H${RIGHT}` }),
        svg("path", { class: "sb-one", d: `M${LEFT},${up(1)} H${RIGHT}` }),
        ...[0, 1, maximum].map((weight) => svg("text", { ...beside, y: up(weight) }, String(weight))),
        svg("text", { x: LEFT, y: below }, first),
        svg("text", { x: RIGHT, y: below, "text-anchor": "end" }, last),
        svg("text", { x: middle, y: below, "text-anchor": "middle" }, name),
        svg("text", { transform: `translate(14 ${(TOP + BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, "weight"),
    ];
}

function legend() {
    const entries = Object.entries(CURVES).map(([name, text]) => {
        const line = svg("polyline", { class: `sb-line sb-of-${name}`, points: "0,4 26,4" });
        const sample = svg("svg", { class: "sb-sample", viewBox: "0 0 26 8", "aria-hidden": "true" }, line);
        return element("span", { class: "sb-entry" }, sample, text);
    });
    return element("p", { class: "sb-legend sb-small" }, ...entries);
}

function description(curves, plan) {
    const parts = Object.entries(CURVES).map(
        ([name, text]) => `${text} from ${short(curves[name][0])} to ${short(curves[name].at(-1))}`,
    );
    const steps = plan ? ` The run had ${plan.words.length} steps.` : "";
    return `Weights from the first step to the last: ${parts.join(", ")}.${steps}`;
}

function short(weight) {
    return String(Number(weight.toFixed(2)));
}

function svg(tag, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
}
