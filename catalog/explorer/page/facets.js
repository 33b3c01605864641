// Facets: a list of classes a layer, each with the samples that it would have under the filters of the others.
import { dot, element, thousands, words } from "./elements.js";
import { LAYERS } from "./samples.js";
import { css } from "./palette.js";

const FEW = 15;

export class Facets {
  /** @param onFilter called with a layer and a Set of class numbers. */
  constructor(host, samples, onFilter) {
    Object.assign(this, { samples, onFilter, lists: {} });
    host.replaceChildren(...samples.layers.map((layer, k) => this.#layer(layer, k)));
  }

  #layer(layer, place) {
    const names = this.samples.names[layer];
    const used = new Uint32Array(names.length);
    for (const number of this.samples[layer]) used[number]++;
    const numbers = [...names.keys()].filter((number) => number > 0 || used[0]);
    numbers.push(...(numbers[0] === 0 ? [numbers.shift()] : [])); // none comes last
    const rows = numbers.map((number) => {
      const box = element("input", { type: "checkbox", value: String(number) });
      box.addEventListener("change", () => this.#changed(layer));
      const mark = dot("transparent");
      const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("span"));
      const count = element("span", { class: "count" });
      const label = element("span", { class: "name" }, mark, layer === "landcover" ? words(names[number]) : names[number]);
      return { number, box, mark, bar, count, item: element("li", {}, element("label", {}, box, label, bar, count)) };
    });
    const more = element("button", { type: "button", class: "quiet", "aria-expanded": "false" }, `Show all ${names.length - 1}`);
    const list = element("ul", { class: rows.length > FEW ? "few" : "" }, ...rows.map(({ item }) => item));
    more.addEventListener("click", () => {
      const all = list.classList.toggle("few") === false;
      more.setAttribute("aria-expanded", String(all));
      more.textContent = all ? "Show fewer" : `Show all ${names.length - 1}`;
    });
    const clear = element("button", { type: "button", class: "quiet", hidden: true }, "Clear");
    clear.setAttribute("aria-label", `Clear the filter by ${LAYERS[layer].toLowerCase()}`);
    clear.addEventListener("click", () => {
      this.onFilter(layer, new Set());
      this.lists[layer].rows[0].box.focus();
    });
    const most = Math.max(...used, 1);
    this.lists[layer] = { rows, clear, most };
    const summary = element("summary", {}, LAYERS[layer], element("span", { class: "soft" }, ` ${thousands(names.length - 1)}`));
    const body = element("fieldset", {}, element("legend", { class: "unseen" }, LAYERS[layer]), list);
    if (rows.length > FEW) body.append(more);
    const one = names.length === 2 && !used[0]; // nothing to choose from
    const open = place < 4 && names.length < 40 && matchMedia("(min-width: 52rem)").matches; // on a phone what is filtered comes first
    return element("details", { class: "facet", open, hidden: one, "data-layer": layer }, summary, clear, body);
  }

  #changed(layer) {
    const ticked = this.lists[layer].rows.filter(({ box }) => box.checked).map(({ number }) => number);
    this.onFilter(layer, new Set(ticked));
  }

  draw(selection, colouredBy, palette) {
    for (const [layer, { rows, clear, most }] of Object.entries(this.lists)) {
      const filter = selection.filters[layer];
      clear.hidden = !filter;
      for (const { number, box, mark, bar, count, item } of rows) {
        const found = selection.facets[layer][number];
        box.checked = filter?.has(number) ?? false;
        count.textContent = thousands(found);
        bar.firstChild.style.width = `${(100 * found) / most}%`;
        mark.style.background = css(palette.of(number));
        mark.style.display = layer === colouredBy ? "" : "none";
        item.classList.toggle("empty", found === 0);
      }
    }
  }
}
