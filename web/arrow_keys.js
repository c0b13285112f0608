/* Elements that are one stop of the Tab key, walked along by arrow keys, Home and End. */

const MOVES = {
    ArrowRight: (index) => index + 1,
    ArrowDown: (index) => index + 1,
    ArrowLeft: (index) => index - 1,
    ArrowUp: (index) => index - 1,
    Home: () => 0,
    End: (_, count) => count - 1,
};

export function walk(event, elements) {
    const move = MOVES[event.key];
    const index = elements.indexOf(event.target);
    if (!move || index < 0) return;
    event.preventDefault();
    event.stopPropagation();
    elements[move(index, elements.length)]?.focus();
}

/* The Tab key comes to the one that had the focus last. */
export function makeStop(stop, elements) {
    for (const each of elements) each.tabIndex = each === stop ? 0 : -1;
}
