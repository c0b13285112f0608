/* Draws a picture with a heat map over it, and several of these with their captions as one picture to keep. */

const LONGEST = 1024;
const SHORTEST = 512;
const NEUTRAL = 118;
const CAPTION = 44;
const GAP = 12;

/* The size on which to draw a picture of [height, width]: in its own shape, large enough to look at. */
export function drawnSize([height, width]) {
    const factor = Math.min(LONGEST / Math.max(height, width), Math.max(1, SHORTEST / Math.max(height, width)));
    return { width: Math.round(width * factor), height: Math.round(height * factor) };
}

/* The 256 colours of a run, of three bytes each. */
export function paletteOf(encoded) {
    return Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
}

export function greyed(image) {
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height);
    for (let place = 0; place < pixels.data.length; place += 4) {
        const mean = (pixels.data[place] + pixels.data[place + 1] + pixels.data[place + 2]) / 3;
        pixels.data.fill(mean, place, place + 3);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
}

/* A map of [height, width] in colours; `range` are the values at the two ends of the palette. */
export function coloured(map, [height, width], [low, high], palette) {
    const pixels = new ImageData(width, height);
    const span = high - low || Infinity;
    map.forEach((value, place) => {
        const colour = Math.round(255 * Math.min(1, Math.max(0, (value - low) / span)));
        pixels.data.set(palette.subarray(3 * colour, 3 * colour + 3), 4 * place);
        pixels.data[4 * place + 3] = 255;
    });
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
}

/* `heat` is null or {map, size, range, palette, opacity}; `point` null or a cell {row, column} of a grid of `size`. */
export function drawView(canvas, { picture, heat, point, size }) {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.globalAlpha = 1;
    context.imageSmoothingQuality = "high";
    context.fillStyle = `rgb(${NEUTRAL} ${NEUTRAL} ${NEUTRAL})`;
    context.fillRect(0, 0, width, height);
    if (picture) context.drawImage(picture, 0, 0, width, height);
    if (heat) {
        context.globalAlpha = heat.opacity;
        context.drawImage(coloured(heat.map, size, heat.range, heat.palette), 0, 0, width, height);
    }
    context.globalAlpha = 1;
    if (point) drawPoint(context, point, size);
}

/* A ring around a cell, light on dark and dark on light. */
function drawPoint(context, { row, column }, [rows, columns]) {
    const { width, height } = context.canvas;
    const radius = Math.max(6, width / columns);
    for (const [colour, thickness] of [["#000", 5], ["#fff", 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = thickness;
        context.beginPath();
        context.arc(((column + 0.5) / columns) * width, ((row + 0.5) / rows) * height, radius, 0, 2 * Math.PI);
        context.stroke();
    }
}

/* Views of the same size side by side, each with its caption below. */
export function composed(views) {
    const [{ canvas: first }] = views;
    const made = document.createElement("canvas");
    made.width = views.length * (first.width + GAP) - GAP;
    made.height = first.height + CAPTION;
    const context = made.getContext("2d");
    context.fillStyle = "#18181b";
    context.fillRect(0, 0, made.width, made.height);
    context.fillStyle = "#f4f4f5";
    context.font = "18px system-ui, sans-serif";
    context.textBaseline = "middle";
    views.forEach(({ canvas, caption }, index) => {
        const left = index * (first.width + GAP);
        context.drawImage(canvas, left, 0);
        context.fillText(caption, left + GAP, first.height + CAPTION / 2, first.width - 2 * GAP);
    });
    return made;
}
