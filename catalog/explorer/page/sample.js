// One sample: its chip in true and false colour, its spectrum, and all that the items say of it.
import { byId, element, fixed, svg, ticks, words } from "./elements.js";
import { ask } from "./samples.js";

const TITLES = {
  "div:continent": "Continent",
  "div:biome": "Biome",
  "div:ecoregion": "Ecoregion",
  "div:landcover": "Land cover",
  "div:spectral_entropy": "Spectral entropy",
  "div:spectral_entropy_codebook": "… over the codebook",
  "div:spectral_entropy_covariance": "… of the covariance",
  "div:valid_fraction": "Pixels with data",
  "pwcat:split": "Split",
  "proj:code": "Grid",
};

export class SampleView {
  /** @param onStep called with -1 or 1; onShow with the row that is shown, or -1. */
  constructor({ onStep, onShow, version }) {
    Object.assign(this, { onShow, version, row: -1, date: 0 });
    this.dialog = byId("sample");
    byId("sample-close").addEventListener("click", () => this.dialog.close());
    byId("sample-previous").addEventListener("click", () => onStep(-1));
    byId("sample-next").addEventListener("click", () => onStep(1));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => {
      this.row = -1;
      onShow(-1);
    });
    this.dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || event.target.matches("input, select")) return;
      event.preventDefault();
      onStep(step);
    });
  }

  async open(row) {
    this.row = row;
    this.date = 0;
    this.onShow(row);
    byId("sample-body").setAttribute("aria-busy", "true");
    if (!this.dialog.open) {
      byId("sample-body").replaceChildren(element("p", { class: "soft" }, "Reading …"));
      this.dialog.showModal();
    }
    try {
      const told = await (await ask(`samples/${row}.json`)).json();
      if (this.row === row) this.#draw(told);
    } catch (error) {
      byId("sample-body").replaceChildren(element("p", { class: "fault", role: "alert" }, error.message));
    }
    byId("sample-body").setAttribute("aria-busy", "false");
  }

  #draw(told) {
    byId("sample-title").textContent = told.id;
    const parts = [this.#pictures(told)];
    if (told.spectra.length) parts.push(this.#spectrum(told));
    parts.push(this.#facts(told));
    byId("sample-body").replaceChildren(...parts);
  }

  #pictures(told) {
    if (!told.pictures.length) return element("p", { class: "fault" }, `No picture: ${told.why ?? "it has no red, green and blue bands"}`);
    const images = told.pictures.map(({ name, title }) => {
      const image = element("img", { src: this.#source(told, name), alt: `${title} of ${told.id}`, width: told.size_px, height: told.size_px });
      return { name, image, figure: element("figure", {}, image, element("figcaption", {}, title)) };
    });
    const row = element("div", { class: "pictures" }, ...images.map(({ figure }) => figure));
    if (told.spectra.length < 2) return row;
    const dates = told.spectra.map((_, k) => {
      const radio = element("input", { type: "radio", name: "date", value: String(k), checked: k === this.date });
      radio.addEventListener("change", () => {
        this.date = k;
        for (const { name, image } of images) image.src = this.#source(told, name);
        byId("spectrum").replaceWith(this.#spectrum(told));
      });
      return element("label", {}, radio, ` ${k + 1}`);
    });
    return element("div", {}, row, element("fieldset", { class: "dates" }, element("legend", {}, "Date"), ...dates));
  }

  #source(told, name) {
    return `samples/${told.row}/${name}.png?date=${this.date}&v=${this.version}`;
  }

  /** Median reflectance of each band over its wavelength, and between which values most pixels lie. */
  #spectrum(told) {
    const bands = told.spectra[this.date].filter((band) => band.p50 !== null);
    const known = bands.length > 0 && bands.every((band) => band.wavelength_nm !== null);
    const points = bands.map((band, k) => ({ ...band, at: known ? band.wavelength_nm : k })).sort((a, b) => a.at - b.at);
    const [W, H, left, base] = [560, 220, 44, 178];
    const host = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Spectrum of ${told.id}: ${points.map((p) => `${p.band} ${fixed(p.p50)}`).join(", ")}` });
    const figure = element("figure", { id: "spectrum", class: "spectrum" }, host);
    if (!points.length) return figure;
    const [from, to] = [points[0].at, points.at(-1).at];
    const top = Math.max(0.05, ...points.map((point) => point.p90)) * 1.08;
    const x = (at) => left + (to > from ? (at - from) / (to - from) : 0.5) * (W - left - 14);
    const y = (value) => base - (value / top) * (base - 10);
    const axis = svg("g", { class: "axis" }, svg("line", { x1: left, x2: W, y1: base, y2: base }));
    for (const value of ticks(0, top, 4)) {
      axis.append(svg("line", { class: "rule", x1: left, x2: W, y1: y(value), y2: y(value) }));
      axis.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
    }
    for (const value of known ? ticks(from, to, 6) : []) axis.append(svg("text", { x: x(value), y: base + 17, "text-anchor": "middle" }, String(value)));
    axis.append(svg("text", { x: W, y: H - 6, "text-anchor": "end", class: "unit" }, known ? "wavelength (nm)" : "bands in the cube's order"));
    const band = [...points.map((p) => `${x(p.at)},${y(p.p90)}`), ...points.toReversed().map((p) => `${x(p.at)},${y(p.p10)}`)].join(" ");
    host.append(axis, svg("polygon", { class: "spread", points: band }), svg("polyline", { class: "median", points: points.map((p) => `${x(p.at)},${y(p.p50)}`).join(" ") }));
    for (const point of points) {
      const mark = svg("circle", { class: "mark", cx: x(point.at), cy: y(point.p50), r: 3.4 });
      mark.append(svg("title", {}, `${point.band}: median ${fixed(point.p50)}, 10th to 90th percentile ${fixed(point.p10)} to ${fixed(point.p90)}`));
      host.append(mark);
    }
    figure.append(element("figcaption", {}, "Surface reflectance: median of the chip's pixels, and the range from the 10th to the 90th percentile"));
    return figure;
  }

  #facts(told) {
    const list = element("dl", { class: "sample-facts" });
    const add = (title, value) => list.append(element("div", {}, element("dt", {}, title), element("dd", {}, value)));
    add("Collection", told.collection);
    add("Place", `${fixed(Math.abs(told.lat), 4)}° ${told.lat < 0 ? "S" : "N"}, ${fixed(Math.abs(told.lon), 4)}° ${told.lon < 0 ? "W" : "E"}`);
    if (told.datetime) add("Date", `${told.datetime.slice(0, 16).replace("T", " ")} UTC`);
    for (const [key, title] of Object.entries(TITLES)) {
      const value = told.fields[key];
      if (value === null || value === undefined) continue;
      if (key === "div:valid_fraction") add(title, `${(100 * value).toFixed(1)} %`);
      else if (typeof value === "number") add(title, `${fixed(value)} nats`);
      else add(title, key === "div:landcover" ? words(value) : value);
    }
    for (const [name, value] of Object.entries(told.columns)) {
      if (value !== null) add(name, typeof value === "number" ? fixed(value) : value);
    }
    const shares = told.fields["div:landcover_fractions"] ?? [];
    if (shares.length > 1) add("Land cover shares", shares.slice(0, 4).map(({ name, fraction }) => `${words(name)} ${(100 * fraction).toFixed(0)} %`).join(", "));
    const scenes = told.fields["pwcat:scene_ids"] ?? [];
    if (scenes.length) add(scenes.length > 1 ? "Scenes" : "Scene", scenes.slice(0, 3).join(", ") + (scenes.length > 3 ? " …" : ""));
    return list;
  }
}
