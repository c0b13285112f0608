/* The maps of one picture of a run: of any word, kept step and layers, as heat maps on the latent's grid. */

import { fetchMaps, fetchPicture } from "./atlas.js";
import { rangeOf, resampling } from "./resample.js";

export const ALL_LAYERS = -1;

/* `run` is the node's description of what it wrote, `urlOf` makes the address of a file of it. */
export async function fetchPictureOf(run, urlOf, picture) {
    const count = run.steps.length * run.labels.length;
    const image = run.pictures.length ? await fetchPicture(urlOf(run.pictures[picture])) : null;
    const grids = await Promise.all(
        run.grids.map(async (grid) => ({
            layers: grid.layers,
            map: await fetchMaps(urlOf(grid.files[picture]), count, grid.size),
            resampled: resampling(grid.size, run.latent_size),
        })),
    );
    return new PictureMaps(run, urlOf, picture, image, grids);
}

class PictureMaps {
    constructor(run, urlOf, picture, image, grids) {
        this.run = run;
        this.urlOf = urlOf;
        this.picture = picture;
        this.image = image;
        this.grids = grids;
        this.commonRanges = new Map();
    }

    /* The share of each grid that counts: all by their layers, as DAAM averages them, or one alone. */
    shares(layers) {
        if (layers !== ALL_LAYERS) return [[this.grids[layers], 1]];
        const total = this.grids.reduce((sum, grid) => sum + grid.layers, 0);
        return this.grids.map((grid) => [grid, grid.layers / total]);
    }

    heatMap(label, step, layers) {
        const number = step * this.run.labels.length + label;
        const [first, ...others] = this.shares(layers).map(([grid, share]) =>
            grid.resampled.whole(grid.map(number)).map((value) => value * share),
        );
        for (const other of others) other.forEach((value, place) => (first[place] += value));
        return first;
    }

    /* The value of each word at a cell of the latent's grid. */
    valuesAt({ row, column }, step, layers) {
        const shares = this.shares(layers);
        return this.run.labels.map((_, label) => {
            const number = step * this.run.labels.length + label;
            return shares.reduce((sum, [grid, share]) => sum + share * grid.resampled.at(grid.map(number), row, column), 0);
        });
    }

    /* The extremes among all words and kept steps. */
    commonRange(layers) {
        if (!this.commonRanges.has(layers)) {
            const ranges = this.run.steps.flatMap((_, step) =>
                this.run.labels.map((_, label) => rangeOf(this.heatMap(label, step, layers))),
            );
            this.commonRanges.set(layers, rangeOf(ranges.flat()));
        }
        return this.commonRanges.get(layers);
    }

    /* Which patches look at the cell, on the latent's grid; null where there is no such file, or until it has come and
       `arrived` is called, with an error if it has not. */
    lookers({ row, column }, arrived) {
        const { affinity: sent, latent_size: size } = this.run;
        if (!sent) return null;
        if (!this.affinity) {
            this.affinity = fetchMaps(this.urlOf(sent.files[this.picture]), sent.size[0] * sent.size[1], sent.size);
            this.affinity.then((map) => (this.affinityMap = map)).then(() => arrived(), arrived);
        }
        if (!this.affinityMap) return null;
        const down = Math.floor((row * sent.size[0]) / size[0]);
        const across = Math.floor((column * sent.size[1]) / size[1]);
        return resampling(sent.size, size).whole(this.affinityMap(down * sent.size[1] + across));
    }
}
