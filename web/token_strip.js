/* Every token of a prompt with its row, in the colours of the entities, for each text encoder. */

import { element } from "./node_panel.js";

export const ENCODERS = { l: "CLIP-L", g: "CLIP-G", h: "CLIP-H" };

/* `open` has which of the strips are open, and is kept up to date. */
export function tokenStrips({ encoders }, groups, open) {
    return Object.entries(encoders).map(([name, tokens], index) => {
        const details = element("details", { class: "sb-tokens" }, ...strip(name, tokens, groups));
        details.open = open[name] ?? index === 0;
        details.addEventListener("toggle", () => (open[name] = details.open));
        return details;
    });
}

/* The rows of an encoder's tokens that overlap the phrases. */
export function rowsOf(phrases, { tokens, text, embedding }) {
    const rows = [...text, ...embedding].sort((a, b) => a - b);
    const spans = phrases.flatMap((phrase) => phrase.spans);
    return rows.filter((_, index) => {
        const span = tokens[index].span;
        return span && spans.some(([start, end]) => start < span[1] && span[0] < end);
    });
}

function strip(encoder, tokens, groups) {
    const styles = new Map(groups.flatMap(({ style, phrases }) => rowsOf(phrases, tokens).map((row) => [row, style])));
    const rows = [...tokens.text, ...tokens.embedding].sort((a, b) => a - b);
    const chips = tokens.tokens.map(({ piece, weight }, index) => {
        const row = rows[index];
        const title = `row ${row} of ${tokens.length}${weight === 1 ? "" : `, weight ${Number(weight.toFixed(3))}`}`;
        const style = styles.get(row);
        return element(
            "span",
            style ? { class: "sb-token", style, title } : { class: "sb-token", title },
            element("span", { class: "sb-index" }, String(row)),
            piece,
        );
    });
    const heading = `${ENCODERS[encoder]}: ${chips.length} tokens with their rows`;
    return [element("summary", { class: "sb-small" }, heading), element("div", { class: "sb-strip" }, ...chips)];
}
