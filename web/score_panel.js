/* The table of Score Binding, as the node prints it. */

import { element } from "./node_panel.js";

export const scorePanel = {
    label: "Binding score",
    hint: "Run the workflow to see the score.",
    render(output) {
        const text = output?.text;
        if (!text?.length) return null;
        return [element("pre", { class: "sb-table" }, [text].flat().join("\n"))];
    },
};
