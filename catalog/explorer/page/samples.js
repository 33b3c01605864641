// The columns of all samples, as catalog/explorer/columns.py writes them: typed arrays over one block of bytes, nothing copied.
const KINDS = { f64: Float64Array, i32: Int32Array, u16: Uint16Array };
export const NO_DAY = -(2 ** 31);

/** Titles of the layers that have classes, in the order in which they are shown. */
export const LAYERS = {
  collection: "Collection",
  continent: "Continent",
  biome: "Biome",
  ecoregion: "Ecoregion",
  landcover: "Land cover",
  split: "Split",
};

export function decode(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const samples = { rows: header.rows, of: header.of, names: {} };
  for (const { name, type, offset, names } of header.columns) {
    samples[name] = new KINDS[type](buffer, 4 + length + offset, header.rows);
    if (names) samples.names[name] = ["none", ...names];
  }
  // Layers that label nothing are not shown
  samples.layers = Object.keys(LAYERS).filter((layer) => samples.names[layer].length > 1);
  return samples;
}

/** What the server says instead of an answer, as an Error. */
export async function ask(path) {
  const response = await fetch(path);
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `${path}: the server answered ${response.status}`);
}

export const dayOf = (text) => Math.floor(Date.parse(`${text}T00:00:00Z`) / 86400000);
export const dateOf = (day) => new Date(day * 86400000).toISOString().slice(0, 10);
