/* Words that are dragged with mouse, pen or finger and dropped on an entity; one that is pressed and not moved is clicked. */

import { element } from "./node_panel.js";

const LEAST_MOVE = 5;
const EDGE = 22;
const SCROLL = 6;

/* `clicked(pick)` and `dropped(pick, target)`; targets are what has `data-entity` in the same panel. */
export function dragging(words, { clicked, dropped }) {
    let moved = false;
    words.addEventListener("pointerdown", (event) => {
        const pick = event.target.closest(".sb-pick");
        if (!pick) return;
        event.stopPropagation();
        moved = false;
        if (event.button === 0 && event.isPrimary) new Drag(pick, event, () => (moved = true), dropped);
    });
    /* Where a drag ends a click may follow or not, as after one by finger; any press begins anew. A keyboard or a screen
       reader clicks without a press, and has no detail. */
    words.addEventListener("click", (event) => {
        const pick = event.target.closest(".sb-pick");
        if (pick && !(moved && event.detail)) clicked(pick);
    });
}

class Drag {
    constructor(pick, { clientX, clientY, pointerId }, moved, dropped) {
        Object.assign(this, { pick, pointerId, moved, dropped });
        this.start = [clientX, clientY];
        this.panel = pick.closest(".sb-panel");
        this.ended = new AbortController();
        const listen = (name, act) => {
            const guarded = (event) => event.pointerId === this.pointerId && act(event);
            window.addEventListener(name, guarded, { capture: true, signal: this.ended.signal });
        };
        listen("pointermove", (event) => this.move(event));
        listen("pointerup", () => this.drop());
        listen("pointercancel", () => this.end());
        const escaped = (event) => event.key === "Escape" && this.end();
        window.addEventListener("keydown", escaped, { capture: true, signal: this.ended.signal });
    }

    move({ clientX, clientY }) {
        if (!this.ghost) {
            if (Math.hypot(clientX - this.start[0], clientY - this.start[1]) < LEAST_MOVE) return;
            this.lift();
        }
        this.ghost.style.translate = `${clientX}px ${clientY}px`;
        this.aim(document.elementFromPoint(clientX, clientY)?.closest("[data-entity]"));
        this.scroll(clientY);
    }

    lift() {
        this.moved();
        this.ghost = element("span", { class: "sb-ghost", style: this.pick.closest("[style]")?.getAttribute("style") ?? "" });
        this.ghost.textContent = this.pick.textContent;
        document.body.append(this.ghost);
        this.panel.classList.add("sb-dragging");
        getSelection().removeAllRanges();
    }

    aim(target) {
        const aimed = this.panel.contains(target) ? target : null;
        if (aimed === this.target) return;
        this.target?.classList.remove("sb-over");
        this.target = aimed;
        aimed?.classList.add("sb-over");
    }

    /* A pointer at the panel's upper or lower edge brings what lies beyond. */
    scroll(y) {
        const { top, bottom } = this.panel.getBoundingClientRect();
        if (y < top + EDGE) this.panel.scrollTop -= SCROLL;
        if (y > bottom - EDGE) this.panel.scrollTop += SCROLL;
    }

    drop() {
        const target = this.target;
        this.end();
        if (target) this.dropped(this.pick, target);
    }

    end() {
        this.ended.abort();
        this.aim(null);
        this.ghost?.remove();
        this.panel.classList.remove("sb-dragging");
    }
}
