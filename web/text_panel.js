/* A node's own report, as it prints it. */

import { element } from "./node_panel.js";

export function textPanel(label, hint) {
    return {
        label,
        hint,
        render(output) {
            const text = output?.text;
            return text?.length ? [element("pre", { class: "sb-table" }, [text].flat().join("\n"))] : null;
        },
    };
}
