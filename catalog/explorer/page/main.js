// The page: it reads facts, samples and land, and then every change is answered here, without asking the server.
import { Compare } from "./compare.js";
import { byId, dot, element, fixed, thousands, words } from "./elements.js";
import { Facets } from "./facets.js";
import { Histogram } from "./histogram.js";
import { WorldMap } from "./map.js";
import { Palette, css, packed } from "./palette.js";
import { commandLine, pythonLines, questionOf } from "./query.js";
import { SampleView } from "./sample.js";
import { LAYERS, NO_DAY, ask, dateOf, dayOf, decode } from "./samples.js";
import { Selection, diversity, spectral } from "./selection.js";

const MEASURED = ["continent", "biome", "ecoregion", "landcover"];
const GALLERY = 12;

class Explorer {
  constructor(facts, samples, land) {
    Object.assign(this, { facts, samples, land, shown: GALLERY });
    this.selection = new Selection(samples);
    this.colour = samples.layers.includes("biome") ? "biome" : samples.layers[0];
    this.#head();
    this.facets = new Facets(byId("facets"), samples, (layer, numbers) => this.#filter(layer, numbers.size ? numbers : null));
    this.histogram = new Histogram(byId("histogram"), this.selection.range, (bounds) => this.#filter("entropy", bounds));
    this.map = new WorldMap(byId("map"), samples, {
      onOpen: (row) => this.view.open(row),
      onHover: (row, x, y) => this.#hover(row, x, y),
    });
    this.view = new SampleView({ version: facts.version, onStep: (step) => this.#step(step), onShow: (row) => this.map.mark(row) });
    this.compare = new Compare(samples, this.selection, facts, land);
    this.#dates();
    this.#controls();
    this.map.setLand(land.rings);
    this.#readAddress();
    this.#theme();
    this.refresh();
  }

  #head() {
    const { facts, samples } = this;
    document.title = `${facts.name} · pwcat explorer`;
    byId("catalog-name").textContent = facts.collections.length === 1 ? facts.collections[0].title : facts.name;
    const licences = [...new Set(facts.collections.map(({ license }) => license))].join(", ");
    byId("catalog-facts").textContent = `${facts.collections.length} collection${facts.collections.length > 1 ? "s" : ""} · ${thousands(samples.of)} samples · ${licences}`;
    byId("land-source").textContent = `Land: ${this.land.source}. Equal Earth projection.`;
    byId("entropy").hidden = !this.selection.range.known; // nothing to brush
    if (samples.of > samples.rows) {
      byId("thinned").hidden = false;
      byId("thinned").textContent = `Showing ${thousands(samples.rows)} of ${thousands(samples.of)} samples, drawn evenly: counts and statistics are of those shown. The lines to copy search all of them.`;
    }
  }

  #controls() {
    const options = [...this.samples.layers.map((layer) => [layer, LAYERS[layer]]), ...(this.selection.range.known ? [["entropy", "Spectral entropy"]] : [])];
    byId("colour").append(...options.map(([value, title]) => element("option", { value }, title)));
    byId("colour").addEventListener("change", (event) => {
      this.colour = event.target.value;
      this.refresh();
    });
    byId("composite").append(...this.facts.composites.map(({ name, title }) => element("option", { value: name }, title)));
    for (const id of ["composite", "gallery-order"]) byId(id).addEventListener("change", () => this.#gallery());
    byId("gallery-more").addEventListener("click", () => {
      this.shown += GALLERY;
      this.#gallery();
    });
    byId("zoom-in").addEventListener("click", () => this.map.zoom(1.6));
    byId("zoom-out").addEventListener("click", () => this.map.zoom(1 / 1.6));
    byId("zoom-home").addEventListener("click", () => this.map.home());
    byId("area").addEventListener("click", () => this.#filter("box", this.selection.filters.box ? null : this.map.bounds()));
    byId("reset").addEventListener("click", () => {
      for (const dimension of Object.keys(this.selection.filters)) this.selection.set(dimension, null);
      this.refresh();
    });
    for (const which of ["command", "python"]) byId(`copy-${which}`).addEventListener("click", () => this.#copy(which));
    byId("theme").addEventListener("click", () => {
      const dark = document.documentElement.dataset.theme !== "dark" && !(document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
      document.documentElement.dataset.theme = dark ? "dark" : "light";
      this.#theme();
      this.refresh();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#theme();
      this.refresh();
    });
    window.addEventListener("hashchange", () => {
      if (location.hash.slice(1) === this.address) return;
      this.#readAddress();
      this.refresh();
    });
  }

  #dates() {
    let [first, last] = [Infinity, -Infinity];
    for (const day of this.samples.day) {
      if (day === NO_DAY) continue;
      if (day < first) first = day;
      if (day > last) last = day;
    }
    byId("dates").hidden = !(last >= first);
    if (!(last >= first)) return;
    byId("dates").open = matchMedia("(min-width: 52rem)").matches;
    this.days = [first, last];
    const inputs = [byId("date-first"), byId("date-last")];
    const changed = () => {
      const given = inputs.map((input, k) => (input.value ? dayOf(input.value) : this.days[k]));
      const wrong = given[0] > given[1];
      for (const input of inputs) input.setCustomValidity(wrong ? "The first day lies after the last." : "");
      byId("date-fault").textContent = wrong ? "The first day lies after the last." : "";
      if (!wrong) this.#filter("days", given[0] <= first && given[1] >= last ? null : given);
    };
    for (const input of inputs) {
      Object.assign(input, { min: dateOf(first), max: dateOf(last) });
      input.addEventListener("change", changed);
    }
    byId("date-clear").addEventListener("click", () => this.#filter("days", null));
  }

  #filter(dimension, filter) {
    this.selection.set(dimension, filter);
    this.refresh();
  }

  /** Show everything as the filters are now. */
  refresh() {
    const { selection, samples, palette } = this;
    selection.count();
    const { tally } = selection;
    const some = Object.keys(selection.filters).length > 0;
    byId("count").textContent = thousands(tally.count);
    byId("count-of").textContent = `of ${thousands(samples.rows)} samples${some ? " selected" : ""}`;
    byId("reset").disabled = !some;
    byId("colour").value = this.colour;
    this.facets.draw(selection, this.colour, palette);
    this.histogram.show(selection.filters.entropy ?? null);
    const { range, colours } = selection;
    const along = (share) => (range.low + share * (range.high - range.low) - colours.low) / (colours.high - colours.low);
    const ramp = this.colour === "entropy" ? (share) => css(palette.ramp(along(share))) : undefined;
    this.histogram.draw(selection.open, tally.histogram, ramp);
    this.#drawDates();
    byId("area").setAttribute("aria-pressed", String(Boolean(selection.filters.box)));
    byId("area").textContent = selection.filters.box ? "Whole world" : "Only this area";
    this.map.setBox(selection.filters.box ?? null);
    this.map.setPoints(this.#colours(), selection.failed, this.theme);
    this.#legend();
    this.#statistics();
    this.#query();
    this.shown = GALLERY;
    this.#gallery();
    this.#writeAddress();
    this.compare.draw(this.theme, palette);
  }

  /** Colours of the page as they are now, light or dark; a canvas cannot read the names of a stylesheet. */
  #theme() {
    const probe = document.body.appendChild(element("span", { hidden: true }));
    const read = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const names = ["sea", "land", "coast", "grid", "accent", "paper", "ink"];
    const solid = (name) => packed(read(name).match(/\d+/g).slice(0, 3).map(Number));
    const dark = (solid("paper") & 255) < 128;
    this.theme = { ...Object.fromEntries(names.map((name) => [name, read(name)])), faint: solid("faint"), ring: solid("sea") };
    probe.remove();
    byId("theme").setAttribute("aria-pressed", String(dark));
    this.palette = new Palette(this.facts.colours, dark);
  }

  /** The colour of each row; kept as long as what they show is the same. */
  #colours() {
    const key = `${this.colour} ${this.palette.dark}`;
    if (this.colourKey === key) return this.kept;
    const { samples, palette, selection } = this;
    const { low, high } = selection.colours;
    if (this.colour === "entropy") {
      const steps = Array.from({ length: 256 }, (_, k) => packed(palette.ramp(k / 255)));
      const none = packed(palette.none);
      this.kept = Uint32Array.from(samples.entropy, (value) => (value === value ? steps[Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))))] : none));
    } else {
      const table = samples.names[this.colour].map((_, number) => packed(palette.of(number)));
      this.kept = Uint32Array.from(samples[this.colour], (number) => table[number]);
    }
    this.colourKey = key;
    return this.kept;
  }

  #legend() {
    const { samples, selection, palette } = this;
    if (this.colour === "entropy") {
      const bar = element("span", { class: "ramp", "aria-hidden": "true" });
      bar.style.background = `linear-gradient(to right, ${Array.from({ length: 9 }, (_, k) => css(palette.ramp(k / 8))).join(", ")})`;
      byId("legend").replaceChildren(element("li", {}, `≤ ${fixed(selection.colours.low, 1)}`, bar, `≥ ${fixed(selection.colours.high, 1)} nats`));
      return;
    }
    const counts = selection.tally.counts[this.colour];
    const numbers = [...counts.keys()].filter((number) => counts[number]).sort((a, b) => counts[b] - counts[a]);
    const name = (number) => (this.colour === "landcover" ? words(samples.names.landcover[number]) : samples.names[this.colour][number]);
    const items = numbers.slice(0, 14).map((number) => element("li", {}, dot(css(palette.of(number))), name(number)));
    if (numbers.length > 14) items.push(element("li", { class: "soft" }, `and ${numbers.length - 14} more`));
    byId("legend").replaceChildren(...items);
  }

  #statistics() {
    const { samples, selection } = this;
    const { tally } = selection;
    const rows = MEASURED.filter((layer) => samples.layers.includes(layer)).map((layer) => {
      const found = diversity(tally.counts[layer]);
      const cells = [String(found.classes), fixed(found.shannon), fixed(found.effective, 2), fixed(found.evenness, 2)];
      return element("tr", { "data-layer": layer }, element("th", { scope: "row" }, LAYERS[layer]), ...cells.map((cell) => element("td", {}, cell)));
    });
    byId("statistics").replaceChildren(...rows);
    byId("statistics").parentElement.hidden = rows.length === 0;
    const { mean, deviation } = spectral(tally);
    byId("spectral-mean").textContent = Number.isFinite(mean) ? `${fixed(mean)} ± ${fixed(deviation)} nats` : "–";
  }

  #query() {
    const given = questionOf(this.samples, this.selection.filters);
    byId("command").textContent = commandLine(this.facts.path, given);
    byId("python").textContent = pythonLines(this.facts.path, given);
  }

  async #copy(which) {
    const text = byId(which).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure connection a page may not write the clipboard by itself; what the reader selects it may
      const range = document.createRange();
      range.selectNodeContents(byId(which));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    byId("said").textContent = "Copied";
    byId(`copy-${which}`).textContent = "Copied";
    setTimeout(() => (byId(`copy-${which}`).textContent = "Copy"), 1600);
  }

  /** Rows for the gallery, in its order: as drawn, or by entropy. */
  #ordered() {
    const rows = this.selection.rows();
    const order = byId("gallery-order").value;
    if (order === "any") return rows;
    const { entropy } = this.samples;
    const known = rows.filter((row) => entropy[row] === entropy[row]);
    return known.sort((a, b) => (order === "low" ? entropy[a] - entropy[b] : entropy[b] - entropy[a]));
  }

  #gallery() {
    this.order = this.#ordered();
    const composite = byId("composite").value;
    const { samples } = this;
    const cards = Array.from(this.order.subarray(0, this.shown), (row) => {
      const name = ["landcover", "biome", "collection"].find((layer) => samples[layer][row]);
      const land = words(samples.names[name][samples[name][row]]);
      const biome = samples.biome[row] ? samples.names.biome[samples.biome[row]] : "no biome";
      const image = element("img", { src: `samples/${row}/${composite}.png?px=128&v=${this.facts.version}`, alt: "", loading: "lazy", width: 128, height: 128 });
      image.addEventListener("error", () => image.replaceWith(element("span", { class: "blank" }, "no picture")));
      const entropy = samples.entropy[row] === samples.entropy[row] ? `${fixed(samples.entropy[row], 2)} nats` : "";
      const label = `Open a sample: ${land}, ${biome}, ${entropy}`;
      const card = element("button", { type: "button", "aria-label": label, "data-row": String(row) }, image, element("span", { class: "name" }, land), element("span", { class: "soft" }, entropy));
      card.addEventListener("click", () => this.view.open(row));
      return element("li", {}, card);
    });
    byId("gallery").replaceChildren(...cards);
    byId("gallery-more").hidden = this.order.length <= this.shown;
    byId("gallery-empty").hidden = this.order.length > 0;
  }

  #step(step) {
    const at = this.order.indexOf(this.view.row);
    const next = this.order[(at + step + this.order.length) % this.order.length];
    if (next !== undefined) this.view.open(next);
  }

  #hover(row, x, y) {
    const tip = byId("tip");
    tip.hidden = row < 0;
    byId("map").classList.toggle("over", row >= 0);
    if (row < 0) return;
    const { samples } = this;
    const named = (layer) => (samples[layer][row] ? words(samples.names[layer][samples[layer][row]]) : `no ${LAYERS[layer].toLowerCase()}`);
    tip.replaceChildren(element("b", {}, named("landcover")), element("span", {}, named("biome")), element("span", { class: "soft" }, `${named("collection")} · ${fixed(samples.entropy[row], 2)} nats`));
    const { left, top, width } = byId("map").getBoundingClientRect();
    tip.style.left = `${Math.max(0, Math.min(width - tip.offsetWidth, x - left + 14))}px`;
    tip.style.top = `${y - top + 16}px`;
  }

  #drawDates() {
    if (!this.days) return;
    const [first, last] = this.selection.filters.days ?? this.days;
    byId("date-first").value = dateOf(first);
    byId("date-last").value = dateOf(last);
    byId("date-clear").hidden = !this.selection.filters.days;
  }

  /** The filters in the page's address, so that it can be shared and kept. */
  #writeAddress() {
    const { samples, selection, colour } = this;
    const said = new URLSearchParams();
    for (const [dimension, filter] of Object.entries(selection.filters)) {
      if (filter instanceof Set) for (const number of filter) said.append(dimension, number ? samples.names[dimension][number] : "");
      else said.set(dimension, (dimension === "days" ? filter.map(dateOf) : filter).join(","));
    }
    said.set("by", colour);
    this.address = said.toString();
    history.replaceState(null, "", `#${this.address}`);
  }

  #readAddress() {
    const { samples, selection } = this;
    const said = new URLSearchParams(location.hash.slice(1));
    for (const dimension of selection.dimensions) {
      const given = said.getAll(dimension);
      let filter = null;
      if (given.length && samples.names[dimension]) {
        const numbers = given.map((name) => (name === "" ? 0 : samples.names[dimension].indexOf(name))).filter((number) => number >= 0);
        filter = new Set(numbers);
      } else if (given.length) {
        const parts = given[0].split(",").map(dimension === "days" ? dayOf : Number);
        const wanted = dimension === "box" ? 4 : 2;
        if (parts.length === wanted && parts.every(Number.isFinite)) filter = parts;
      }
      selection.set(dimension, filter);
    }
    const by = said.get("by");
    if (by && [...byId("colour").options].some(({ value }) => value === by)) this.colour = by;
  }
}

async function start() {
  try {
    const [facts, buffer, land] = await Promise.all([
      ask("facts.json").then((response) => response.json()),
      ask("samples.bin").then((response) => response.arrayBuffer()),
      ask("land.json").then((response) => response.json()),
    ]);
    window.explorer = new Explorer(facts, decode(buffer), land);
    document.body.classList.add("ready");
  } catch (error) {
    byId("fault").hidden = false;
    byId("fault").textContent = error.message;
    throw error;
  }
}

start();
