// The same question for the command line and for Python. What they find are exactly the samples that are shown.
import { dateOf } from "./samples.js";

const PARAMETERS = { continent: "continent", biome: "biome", ecoregion: "ecoregion", landcover: "landcover", collection: "collections", split: "split" };

const cql = (text) => `'${text.replaceAll("'", "''")}'`;
const shell = (text) => (/^[A-Za-z0-9_./:@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
// A number that other readers do not take for an option or an integer of another meaning
const plain = (value) => (Number.isInteger(value) ? value.toFixed(1) : String(value));

/** The filters as arguments of search, and as a CQL2 text for what those cannot say. */
export function questionOf(samples, filters) {
  const [given, rest] = [{}, []];
  for (const layer of samples.layers) {
    if (!filters[layer]) continue;
    const numbers = [...filters[layer]].sort((a, b) => a - b);
    const names = numbers.filter((number) => number > 0).map((number) => samples.names[layer][number]);
    const simple = PARAMETERS[layer] && names.length === numbers.length && (layer !== "split" || names.length === 1);
    if (simple) given[PARAMETERS[layer]] = layer === "split" ? names[0] : names;
    else rest.push(either(layer, names, names.length < numbers.length));
  }
  if (filters.days) given.datetime = filters.days.map(dateOf).join("/");
  if (filters.entropy) {
    given.min_spectral_entropy = filters.entropy[0];
    rest.push(`spectral_entropy <= ${plain(filters.entropy[1])}`);
  }
  if (filters.box) {
    const [west, south, east, north] = filters.box.map(plain);
    const across = filters.box[0] > filters.box[2];
    rest.push(across ? `(lon >= ${west} OR lon <= ${east})` : `lon >= ${west} AND lon <= ${east}`);
    rest.push(`lat >= ${south} AND lat <= ${north}`);
  }
  if (rest.length) given.filter = rest.join(" AND ");
  return given;
}

function either(layer, names, orNone) {
  const parts = [];
  if (names.length) parts.push(`${layer} IN (${names.map(cql).join(", ")})`);
  if (orNone) parts.push(`${layer} IS NULL`);
  return parts.length > 1 ? `(${parts.join(" OR ")})` : parts[0];
}

export function commandLine(path, given) {
  const options = { collections: "--collection", min_spectral_entropy: "--min-spectral-entropy" };
  const said = Object.entries(given).flatMap(([name, value]) =>
    [value].flat().map((each) => `${options[name] ?? `--${name}`} ${shell(String(each))}`),
  );
  return [`pwcat search ${shell(path)}`, ...said].join(" \\\n  ");
}

const python = (value) => (Array.isArray(value) ? `[${value.map(python).join(", ")}]` : typeof value === "number" ? plain(value) : JSON.stringify(value));

export function pythonLines(path, given) {
  const said = Object.entries(given).map(([name, value]) => `    ${name}=${python(value)},\n`);
  const call = said.length ? `search(\n${said.join("")})` : "search()";
  return `import pwcat\n\ncatalog = pwcat.open_catalog(${python(path)})\nfound = catalog.${call}`;
}
