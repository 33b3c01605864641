// Spectral entropy of the samples: all that pass the other filters, and of these the selected; brushed by pointer or by keys.
import { byId, element, fixed, svg, ticks } from "./elements.js";
import { BINS } from "./selection.js";

const [WIDTH, HEIGHT, BASE] = [720, 150, 126];

export class Histogram {
  /** @param onBrush called with [low, high], or with null where all is in. */
  constructor(host, range, onBrush) {
    Object.assign(this, { host, range, onBrush, bounds: null });
    this.low = byId("entropy-low");
    this.high = byId("entropy-high");
    for (const input of [this.low, this.high]) {
      Object.assign(input, { min: range.low, max: range.high, step: 0.01 });
      input.addEventListener("input", () => {
        const [a, b] = [Number(this.low.value), Number(this.high.value)];
        this.#brush(input === this.low ? [Math.min(a, b), b] : [a, Math.max(a, b)]);
      });
    }
    byId("entropy-clear").addEventListener("click", () => this.#brush(null));
    this.#listen();
    this.show(null);
  }

  #x(value) {
    return ((value - this.range.low) / (this.range.high - this.range.low)) * WIDTH;
  }

  #brush(bounds) {
    if (bounds) {
      const { low, high } = this.range;
      bounds = bounds.map((value) => Number(Math.max(low, Math.min(high, value)).toFixed(2)));
      if (bounds[0] <= low && bounds[1] >= high) bounds = null;
    }
    this.onBrush(bounds);
  }

  /** Bounds as they are now. */
  show(bounds) {
    this.bounds = bounds;
    const [a, b] = bounds ?? [this.range.low, this.range.high];
    this.low.value = a;
    this.high.value = b;
    for (const [input, value] of [[this.low, a], [this.high, b]]) input.setAttribute("aria-valuetext", `${fixed(value, 2)} nats`);
    byId("entropy-bounds").textContent = bounds ? `${fixed(a, 2)} to ${fixed(b, 2)} nats` : "all";
    byId("entropy-clear").hidden = !bounds;
  }

  draw(open, selected, colourOf) {
    const most = Math.max(1, ...open, ...selected);
    const bars = (counts, attributes) => {
      const group = svg("g", attributes({}));
      for (let k = 0; k < BINS; k++) {
        const height = counts[k] ? Math.max(1.5, (counts[k] / most) * (BASE - 8)) : 0;
        if (!height) continue;
        const bar = { x: (k * WIDTH) / BINS + 0.6, width: WIDTH / BINS - 1.2, y: BASE - height, height };
        group.append(svg("rect", { ...bar, ...(colourOf && counts === selected ? { fill: colourOf((k + 0.5) / BINS) } : {}) }));
      }
      return group;
    };
    const axis = svg("g", { class: "axis" }, svg("line", { x1: 0, x2: WIDTH, y1: BASE, y2: BASE }));
    for (const value of ticks(this.range.low, this.range.high, 8)) {
      const anchor = this.#x(value) < 12 ? "start" : this.#x(value) > WIDTH - 12 ? "end" : "middle";
      axis.append(svg("text", { x: this.#x(value), y: HEIGHT - 6, "text-anchor": anchor }, String(value)));
    }
    const brush = svg("g", { class: "brush" });
    if (this.bounds) {
      const [a, b] = this.bounds.map((value) => Math.max(0, Math.min(WIDTH, this.#x(value))));
      brush.append(
        svg("rect", { class: "out", x: 0, y: 0, width: a, height: BASE }),
        svg("rect", { class: "out", x: b, y: 0, width: WIDTH - b, height: BASE }),
        svg("line", { x1: a, x2: a, y1: 0, y2: BASE }),
        svg("line", { x1: b, x2: b, y1: 0, y2: BASE }),
      );
    }
    this.host.replaceChildren(bars(open, () => ({ class: "open" })), bars(selected, () => ({ class: "chosen" })), brush, axis);
  }

  #listen() {
    let from = null;
    const at = (event) => {
      const { left, width } = this.host.getBoundingClientRect();
      return this.range.low + ((event.clientX - left) / width) * (this.range.high - this.range.low);
    };
    this.host.addEventListener("pointerdown", (event) => {
      from = at(event);
      this.host.setPointerCapture(event.pointerId);
    });
    this.host.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const to = at(event);
      if (Math.abs(to - from) > 0.01) this.#brush([Math.min(from, to), Math.max(from, to)]);
    });
    for (const name of ["pointerup", "pointercancel"]) this.host.addEventListener(name, () => (from = null));
  }
}

/** A pair of histograms over each other, as outlines: for comparing. Shares, so that sizes do not matter. */
export function overlay(tallies, range) {
  const host = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Spectral entropy of both, as shares" });
  const shares = tallies.map(({ histogram, known }) => Array.from(histogram, (count) => count / Math.max(1, known)));
  const most = Math.max(1e-9, ...shares.flat());
  shares.forEach((share, which) => {
    let path = `M0 ${BASE}`;
    share.forEach((value, k) => {
      const y = (BASE - (value / most) * (BASE - 8)).toFixed(1);
      path += `V${y}H${(((k + 1) * WIDTH) / BINS).toFixed(1)}`;
    });
    host.append(svg("path", { d: `${path}V${BASE}Z`, class: which ? "b" : "a" }));
  });
  const axis = svg("g", { class: "axis" }, svg("line", { x1: 0, x2: WIDTH, y1: BASE, y2: BASE }));
  for (const value of ticks(range.low, range.high, 8)) {
    const x = ((value - range.low) / (range.high - range.low)) * WIDTH;
    axis.append(svg("text", { x, y: HEIGHT - 6, "text-anchor": x < 12 ? "start" : x > WIDTH - 12 ? "end" : "middle" }, String(value)));
  }
  host.append(axis);
  return element("div", { class: "histogram" }, host);
}
