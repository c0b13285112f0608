/* Numbers and steps as text. */

export function short(value) {
    return String(Number(value.toPrecision(3)));
}

export function stepsText([first, last], total) {
    return first === last ? `step ${first + 1} of ${total}` : `steps ${first + 1} to ${last + 1} of ${total}`;
}
