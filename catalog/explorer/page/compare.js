// Two sets of samples side by side: collections, saved subsets, the selection as it is, or one that was pinned.
import { byId, dot, element, fixed, thousands, words } from "./elements.js";
import { overlay } from "./histogram.js";
import { WorldMap } from "./map.js";
import { packed } from "./palette.js";
import { LAYERS, ask } from "./samples.js";
import { diversity, spectral, tally } from "./selection.js";

const MEASURED = ["continent", "biome", "ecoregion", "landcover"];

export class Compare {
  constructor(samples, selection, facts, land) {
    Object.assign(this, { samples, selection, facts, land, pinned: null, subsets: new Map(), maps: {} });
    this.selects = { a: byId("compare-a"), b: byId("compare-b") };
    this.layer = byId("compare-layer");
    this.layer.append(...samples.layers.filter((layer) => layer !== "collection").map((layer) => element("option", { value: layer }, LAYERS[layer])));
    this.layer.value = samples.layers.includes("biome") ? "biome" : this.layer.value;
    this.#options();
    const names = samples.names.collection;
    this.selects.a.value = names.length > 2 ? "collection:1" : "all";
    this.selects.b.value = names.length > 2 ? "collection:2" : "selection";
    for (const select of [...Object.values(this.selects), this.layer]) select.addEventListener("change", () => this.draw());
    byId("pin").addEventListener("click", () => {
      this.pinned = Uint8Array.from(selection.failed, (bits) => (bits === 0 ? 1 : 0));
      this.#options();
      [this.selects.a.value, this.selects.b.value] = ["pinned", "selection"];
      byId("compare").open = true;
      this.draw();
      byId("compare").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    });
    byId("compare").addEventListener("toggle", () => this.draw());
  }

  #options() {
    for (const select of Object.values(this.selects)) {
      const before = select.value;
      const option = (value, title) => element("option", { value }, title);
      const group = (label, options) => (options.length ? [element("optgroup", { label }, ...options)] : []);
      const names = this.samples.names.collection.slice(1);
      select.replaceChildren(
        option("selection", "The selection above"),
        ...(this.pinned ? [option("pinned", "The pinned selection")] : []),
        option("all", "All samples"),
        ...group("Collections", names.map((name, k) => option(`collection:${k + 1}`, name))),
        ...group("Saved subsets", this.facts.subsets.map((name, k) => option(`subset:${k}`, name))),
      );
      if (before) select.value = before;
    }
  }

  /** A test of rows for what a select says. */
  async #members(value) {
    const { samples, selection } = this;
    const [kind, number] = value.split(":");
    if (kind === "all") return () => true;
    if (kind === "selection") return (row) => selection.failed[row] === 0;
    if (kind === "pinned") return (row) => this.pinned[row] === 1;
    if (kind === "collection") return (row) => samples.collection[row] === Number(number);
    if (!this.subsets.has(number)) {
      const rows = new Uint32Array(await (await ask(`subsets/${number}.bin`)).arrayBuffer());
      const mask = new Uint8Array(samples.rows);
      for (const row of rows) mask[row] = 1;
      this.subsets.set(number, mask);
    }
    return (row) => this.subsets.get(number)[row] === 1;
  }

  /** @param theme as the map takes it; kept for the next time. */
  async draw(theme = this.theme, palette = this.palette) {
    Object.assign(this, { theme, palette });
    if (!byId("compare").open) return;
    try {
      const has = await Promise.all([this.#members(this.selects.a.value), this.#members(this.selects.b.value)]);
      const { samples, selection } = this;
      const tallies = has.map((each) => tally(samples, selection.bins, each));
      let both = 0;
      for (let row = 0; row < samples.rows; row++) if (has[0](row) && has[1](row)) both++;
      byId("compare-table").replaceChildren(...this.#rows(tallies, both));
      byId("compare-histogram").replaceChildren(...(selection.range.known ? [overlay(tallies, selection.range)] : []));
      byId("compare-classes").replaceChildren(...this.#classes(tallies));
      this.#drawMap("a", has[0], tallies[0].count);
      this.#drawMap("b", has[1], tallies[1].count);
      byId("compare-fault").textContent = "";
    } catch (error) {
      byId("compare-fault").textContent = error.message;
    }
  }

  #rows(tallies, both) {
    const row = (title, values, difference) =>
      element("tr", {}, element("th", { scope: "row" }, title), ...values.map((value) => element("td", {}, value)), element("td", {}, difference));
    const signed = (value, digits = 3) => (Number.isFinite(value) ? `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}` : "–");
    const counts = tallies.map(({ count }) => count);
    const rows = [row("Samples", counts.map(thousands), `${thousands(both)} in both`)];
    for (const layer of MEASURED.filter((each) => this.samples.layers.includes(each))) {
      const found = tallies.map(({ counts }) => diversity(counts[layer]));
      rows.push(row(`${LAYERS[layer]} entropy`, found.map(({ shannon }) => fixed(shannon)), signed(found[1].shannon - found[0].shannon)));
      rows.push(row(`${LAYERS[layer]}, effective classes`, found.map(({ effective }) => fixed(effective, 2)), signed(found[1].effective - found[0].effective, 2)));
    }
    const means = tallies.map(spectral);
    rows.push(row("Spectral entropy, mean ± standard deviation", means.map(({ mean, deviation }) => `${fixed(mean)} ± ${fixed(deviation)}`), signed(means[1].mean - means[0].mean)));
    return rows;
  }

  #classes(tallies) {
    const layer = this.layer.value;
    const shares = tallies.map(({ count, counts }) => Array.from(counts[layer], (each) => each / Math.max(1, count)));
    const numbers = [...shares[0].keys()].filter((number) => shares[0][number] || shares[1][number]);
    const most = Math.max(1e-9, ...shares.flat());
    numbers.sort((p, q) => shares[0][q] + shares[1][q] - shares[0][p] - shares[1][p]);
    return numbers.slice(0, 20).map((number) => {
      const name = this.samples.names[layer][number];
      const bars = shares.map((share, which) => {
        const bar = element("span", { class: `bar ${which ? "b" : "a"}`, "aria-hidden": "true" }, element("span"));
        bar.firstChild.style.width = `${(100 * share[number]) / most}%`;
        return element("span", { class: "pair" }, bar, element("span", { class: "count" }, `${(100 * share[number]).toFixed(1)} %`));
      });
      return element("li", {}, element("span", { class: "name" }, layer === "landcover" ? words(name) : name), ...bars);
    });
  }

  #drawMap(which, has, count) {
    const { samples, theme, palette } = this;
    byId(`compare-count-${which}`).replaceChildren(dot(`var(--${which})`), `${this.selects[which].selectedOptions[0].textContent}: ${thousands(count)}`);
    if (!this.maps[which]) {
      this.maps[which] = new WorldMap(byId(`compare-map-${which}`), samples, { still: true });
      this.maps[which].setLand(this.land.rings);
    }
    const layer = this.layer.value;
    const colours = Uint32Array.from(samples[layer], (number) => packed(palette.of(number)));
    const failed = new Uint16Array(samples.rows);
    for (let row = 0; row < samples.rows; row++) failed[row] = has(row) ? 0 : 1;
    this.maps[which].setPoints(colours, failed, { ...theme, faint: 0 });
  }
}
