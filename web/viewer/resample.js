/* Maps in another size by bicubic interpolation, with the weights and the clamping of attention/maps/heatmaps.py. */

const SHARPNESS = -0.75;
const TAPS = 4;

function near(distance) {
    return ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance * distance + 1;
}

function far(distance) {
    return ((SHARPNESS * distance - 5 * SHARPNESS) * distance + 8 * SHARPNESS) * distance - 4 * SHARPNESS;
}

/* For each place along the new length, one after another, the four places of the old one that count, and their weights. */
function taps(from, to) {
    const places = new Int32Array(TAPS * to);
    const weights = new Float64Array(TAPS * to);
    for (let index = 0; index < to; index++) {
        const place = ((index + 0.5) * from) / to - 0.5;
        const first = Math.floor(place);
        const part = place - first;
        weights.set([far(1 + part), near(part), near(1 - part), far(2 - part)], TAPS * index);
        for (let tap = 0; tap < TAPS; tap++) {
            places[TAPS * index + tap] = Math.min(from - 1, Math.max(0, first - 1 + tap));
        }
    }
    return { places, weights };
}

/* From one [height, width] to another: `whole(map)` and, of the same, the value `at(map, row, column)`. */
export function resampling([height, width], [newHeight, newWidth]) {
    if (height === newHeight && width === newWidth) {
        return { whole: (map) => map, at: (map, row, column) => map[row * width + column] };
    }
    const down = taps(height, newHeight);
    const across = taps(width, newWidth);

    function stretched(map, row, column) {
        let sum = 0;
        for (let tap = TAPS * column; tap < TAPS * column + TAPS; tap++) {
            sum += across.weights[tap] * map[row * width + across.places[tap]];
        }
        return sum;
    }

    return {
        whole(map) {
            const wide = new Float64Array(height * newWidth);
            for (let place = 0; place < wide.length; place++) {
                const column = place % newWidth;
                wide[place] = stretched(map, (place - column) / newWidth, column);
            }
            const made = new Float32Array(newHeight * newWidth);
            for (let place = 0; place < made.length; place++) {
                const column = place % newWidth;
                const first = (TAPS * (place - column)) / newWidth;
                let sum = 0;
                for (let tap = first; tap < first + TAPS; tap++) {
                    sum += down.weights[tap] * wide[down.places[tap] * newWidth + column];
                }
                made[place] = Math.max(0, sum);
            }
            return made;
        },
        at(map, row, column) {
            let sum = 0;
            for (let tap = TAPS * row; tap < TAPS * row + TAPS; tap++) {
                sum += down.weights[tap] * stretched(map, down.places[tap], column);
            }
            return Math.max(0, sum);
        },
    };
}

export function rangeOf(values) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
        if (value < low) low = value;
        if (value > high) high = value;
    }
    return [low, high];
}
