// Which samples meet the filters, and the counts of everything: each facet is counted under the filters of all others.
import { NO_DAY } from "./samples.js";

export const BINS = 60;

/** Edges of the histogram of entropy: a round range around all values. */
export function binsOf(samples) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of samples.entropy) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (!(high >= low)) return { low: 0, high: 1, known: false };
  const step = high - low > 0.5 ? 0.1 : 0.02;
  low = Math.max(0, Math.floor(low / step) * step);
  high = Math.ceil(high / step) * step;
  return { low, high: high > low ? high : low + step, known: true };
}

export const binOf = (value, { low, high }) =>
  Math.max(0, Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS)));

export const inBox = (lon, lat, [west, south, east, north]) =>
  lat >= south && lat <= north && (west <= east ? lon >= west && lon <= east : lon >= west || lon <= east);

export class Selection {
  constructor(samples) {
    this.samples = samples;
    this.range = binsOf(samples);
    this.filters = {}; // layer: Set of numbers; entropy: [low, high]; days: [first, last]; box: [west, south, east, north]
    this.dimensions = [...samples.layers, "entropy", "days", "box"];
    this.failed = new Uint16Array(samples.rows); // a bit for each dimension whose filter a sample fails
    this.bins = Uint8Array.from(samples.entropy, (value) => (value === value ? binOf(value, this.range) : 255));
    this.colours = this.#middle();
    this.count();
  }

  /** Bounds that all but a fiftieth of the samples at either end lie between: what colours span, lest a few outliers take them all. */
  #middle() {
    const counts = new Uint32Array(BINS);
    let known = 0;
    for (const bin of this.bins) {
      if (bin === 255) continue;
      counts[bin]++;
      known++;
    }
    const edge = (from, step) => {
      let [bin, passed] = [from, 0];
      while (bin >= 0 && bin < BINS && passed + counts[bin] <= known / 50) passed += counts[(bin += step) - step];
      return bin;
    };
    const { low, high } = this.range;
    const width = (high - low) / BINS;
    return { low: low + edge(0, 1) * width, high: low + (edge(BINS - 1, -1) + 1) * width };
  }

  /** Set the filter of one dimension, or take it away with null; counts are made by count(). */
  set(dimension, filter) {
    const bit = 1 << this.dimensions.indexOf(dimension);
    const { samples, failed } = this;
    if (filter === null || (filter instanceof Set && !filter.size)) delete this.filters[dimension];
    else this.filters[dimension] = filter;
    const passes = this.#test(dimension, this.filters[dimension]);
    for (let row = 0; row < samples.rows; row++) failed[row] = passes(row) ? failed[row] & ~bit : failed[row] | bit;
  }

  #test(dimension, filter) {
    const { samples } = this;
    if (filter === undefined) return () => true;
    if (dimension === "entropy") return (row) => samples.entropy[row] >= filter[0] && samples.entropy[row] <= filter[1];
    if (dimension === "days") {
      return (row) => samples.day[row] !== NO_DAY && samples.day[row] >= filter[0] && samples.day[row] <= filter[1];
    }
    if (dimension === "box") return (row) => inBox(samples.lon[row], samples.lat[row], filter);
    const wanted = new Uint8Array(samples.names[dimension].length);
    for (const number of filter) wanted[number] = 1;
    return (row) => wanted[samples[dimension][row]] === 1;
  }

  /** Counts of the facets (under the filters of the others) and of what is selected. */
  count() {
    const { samples, failed, bins, dimensions } = this;
    const layers = samples.layers;
    const facets = layers.map((layer) => new Uint32Array(samples.names[layer].length));
    const columns = layers.map((layer) => samples[layer]);
    const open = new Uint32Array(BINS);
    const entropyBit = 1 << dimensions.indexOf("entropy");
    for (let row = 0; row < samples.rows; row++) {
      const bits = failed[row];
      if (bits === 0) for (let k = 0; k < columns.length; k++) facets[k][columns[k][row]]++;
      else if ((bits & (bits - 1)) === 0) {
        const k = 31 - Math.clz32(bits); // fails one filter alone: counts in the facet of that one
        if (k < columns.length) facets[k][columns[k][row]]++;
      }
      if ((bits === 0 || bits === entropyBit) && bins[row] < BINS) open[bins[row]]++;
    }
    this.facets = Object.fromEntries(layers.map((layer, k) => [layer, facets[k]]));
    this.open = open;
    this.tally = tally(samples, this.bins, (row) => failed[row] === 0);
    return this;
  }

  rows() {
    const rows = new Uint32Array(this.tally.count);
    for (let row = 0, k = 0; row < this.samples.rows; row++) if (this.failed[row] === 0) rows[k++] = row;
    return rows;
  }
}

/** Counts and sums of some samples: all that the statistics need. */
export function tally(samples, bins, has) {
  const counts = Object.fromEntries(samples.layers.map((layer) => [layer, new Uint32Array(samples.names[layer].length)]));
  const pairs = samples.layers.map((layer) => [counts[layer], samples[layer]]);
  const histogram = new Uint32Array(BINS);
  let [count, known, sum, squares] = [0, 0, 0, 0];
  for (let row = 0; row < samples.rows; row++) {
    if (!has(row)) continue;
    count++;
    for (const [into, column] of pairs) into[column[row]]++;
    if (bins[row] < BINS) {
      histogram[bins[row]]++;
      known++;
      sum += samples.entropy[row];
      squares += samples.entropy[row] ** 2;
    }
  }
  return { count, counts, histogram, known, sum, squares };
}

/** Diversity of class counts, number 0 (none) left out: as pwcat.entropy computes it. Entropy in nats. */
export function diversity(counts) {
  let [total, classes, weighted] = [0, 0, 0];
  for (let k = 1; k < counts.length; k++) {
    if (!counts[k]) continue;
    classes++;
    total += counts[k];
    weighted += counts[k] * Math.log(counts[k]);
  }
  if (!total) return { classes: 0, labelled: 0, shannon: NaN, effective: NaN, evenness: NaN };
  const shannon = Math.max(0, Math.log(total) - weighted / total);
  const evenness = classes > 1 ? shannon / Math.log(classes) : NaN;
  return { classes, labelled: total, shannon, effective: Math.exp(shannon), evenness };
}

/** Mean spectral entropy and the standard deviation over samples: as catalog.statistics computes them. */
export function spectral({ known, sum, squares }) {
  const mean = known ? sum / known : NaN;
  return { mean, deviation: known > 1 ? Math.sqrt(Math.max(0, squares - known * mean ** 2) / (known - 1)) : NaN };
}
