/* Reads the files that attention/maps/atlas.py writes: maps of 8 bits in one picture, below the scale of each. */

const LEVELS = 255;
const SCALE_BYTES = 8;

/* An error whose text is for the user. */
export class NotThere extends Error {}

export async function fetchPicture(url) {
    const answer = await fetch(url);
    if (!answer.ok) {
        throw new NotThere("The files of this run are gone, as ComfyUI keeps them until it is closed. Run the workflow again.");
    }
    return createImageBitmap(await answer.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

/* The `count` maps of [height, width] in a file: a function that gives one by its number. */
export async function fetchMaps(url, count, [height, width]) {
    const picture = await fetchPicture(url);
    const bytes = greyOf(picture);
    const across = picture.width;
    const scales = new DataView(bytes.buffer, 0, count * SCALE_BYTES);
    const head = Math.ceil((count * SCALE_BYTES) / across);
    const columns = across / width;
    return (index) => {
        const low = scales.getFloat32(index * SCALE_BYTES, true);
        const high = scales.getFloat32(index * SCALE_BYTES + SCALE_BYTES / 2, true);
        const top = head + Math.floor(index / columns) * height;
        const left = (index % columns) * width;
        const map = new Float32Array(height * width);
        for (let place = 0; place < map.length; place++) {
            const column = place % width;
            const row = (place - column) / width;
            map[place] = low + (bytes[(top + row) * across + left + column] / LEVELS) * (high - low);
        }
        return map;
    };
}

function greyOf(picture) {
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const { data } = context.getImageData(0, 0, picture.width, picture.height);
    const grey = new Uint8Array(data.length / 4);
    for (let place = 0; place < grey.length; place++) grey[place] = data[4 * place];
    return grey;
}
