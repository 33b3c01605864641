// The world map. Land is drawn by the browser; points are written by us straight into the pixels of a canvas, with the row of each
// beside its pixels, so that what lies under the pointer is known at once. It needs no graphics card and is the same everywhere.
import { EAST, NORTH, invert, project } from "./projection.js";

const MOST_ZOOM = 20000;
const STILL_MS = 140; // after which points left out during a movement are drawn
const MOVING = 200_000; // points drawn at most while the map moves
const SOFT = 20_000; // points up to which their edges are smoothed
const RING = -255; // of a stamp: a pixel wholly of its outer ring

export class WorldMap {
  /** @param host an element with three canvases: land, points, marks. Calls onOpen(row), onHover(row, x, y), onMove(). */
  constructor(host, samples, { onOpen, onHover, onMove, still = false }) {
    Object.assign(this, { host, samples, onOpen, onHover, onMove });
    [this.base, this.dots, this.marks] = host.querySelectorAll("canvas");
    this.xy = new Float32Array(2 * samples.rows);
    for (let row = 0; row < samples.rows; row++) this.xy.set(project(samples.lon[row], samples.lat[row]), 2 * row);
    this.view = { x: 0, y: 0, k: 1 };
    this.rings = [];
    this.box = null;
    this.marked = -1;
    this.paints = []; // milliseconds that the last frames took
    if (!still) this.#listen();
    new ResizeObserver(() => this.resize()).observe(host);
    this.resize();
  }

  setLand(rings) {
    this.rings = rings.map((ring) => {
      const points = [];
      for (let k = 0; k < ring.length; k += 2) points.push(project(ring[k] / 100, ring[k + 1] / 100));
      return points;
    });
    this.world = pathOf([outline()]);
    this.land = pathOf(this.rings);
    this.grid = graticule();
    this.draw();
  }

  /** @param colours packed colours by row; faint: of samples that are not selected, 0 to hide them. */
  setPoints(colours, failed, theme) {
    Object.assign(this, { colours, failed, theme });
    this.shown = 0;
    for (const bits of failed) if (bits === 0) this.shown++;
    this.draw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height) return;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [this.base, this.dots, this.marks]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    const { width: w, height: h } = this.dots;
    this.context = this.dots.getContext("2d");
    this.image = this.context.createImageData(w, h);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.picked = new Int32Array(w * h);
    this.fit = Math.min(w / (2.03 * EAST), h / (2.05 * NORTH));
    this.draw();
  }

  get scale() {
    return this.fit * this.view.k;
  }

  /** From the plane of the projection to pixels of the canvas. */
  #toPixel(x, y) {
    return [this.dots.width / 2 + (x - this.view.x) * this.scale, this.dots.height / 2 - (y - this.view.y) * this.scale];
  }

  #toPlane(px, py) {
    return [this.view.x + (px - this.dots.width / 2) / this.scale, this.view.y - (py - this.dots.height / 2) / this.scale];
  }

  /** West, south, east, north of all that the map shows, to a hundredth of a degree, or finer when zoomed in. */
  bounds() {
    const { width, height } = this.dots;
    const digits = this.view.k > 200 ? 4 : 2;
    const round = (value, up) => (up ? Math.ceil : Math.floor)(value * 10 ** digits) / 10 ** digits;
    const [, south] = invert(...this.#toPlane(0, height));
    const [, north] = invert(...this.#toPlane(0, 0));
    let [west, east] = [180, -180];
    for (let k = 0; k <= 16; k++) {
      const py = (height * k) / 16;
      west = Math.min(west, invert(...this.#toPlane(0, py))[0]);
      east = Math.max(east, invert(...this.#toPlane(width, py))[0]);
    }
    return [round(west, false), round(south, false), round(east, true), round(north, true)];
  }

  setBox(box) {
    this.box = box;
    this.draw();
  }

  mark(row) {
    this.marked = row;
    this.draw();
  }

  draw() {
    if (this.requested) return;
    this.requested = requestAnimationFrame(() => {
      this.requested = undefined;
      const start = performance.now();
      this.#paint();
      this.paints.push(performance.now() - start);
      if (this.paints.length > 600) this.paints.shift();
    });
  }

  #moved() {
    const { view } = this;
    view.k = Math.max(1, Math.min(MOST_ZOOM, view.k));
    const [free_x, free_y] = [EAST * (1 - 1 / view.k) + 0.02, NORTH * (1 - 1 / view.k) + 0.02];
    view.x = Math.max(-free_x, Math.min(free_x, view.x));
    view.y = Math.max(-free_y, Math.min(free_y, view.y));
    this.moving = true;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      this.moving = false;
      this.draw();
      this.onMove?.();
    }, STILL_MS);
    this.draw();
  }

  /** Zoom by a factor about a pixel of the canvas; about the middle where none is given. */
  zoom(factor, px = this.dots.width / 2, py = this.dots.height / 2) {
    const [x, y] = this.#toPlane(px, py);
    this.view.k = Math.max(1, Math.min(MOST_ZOOM, this.view.k * factor));
    const [now_x, now_y] = this.#toPlane(px, py);
    this.view.x += x - now_x;
    this.view.y += y - now_y;
    this.#moved();
  }

  pan(dx, dy) {
    this.view.x -= dx / this.scale;
    this.view.y += dy / this.scale;
    this.#moved();
  }

  home() {
    this.view = { x: 0, y: 0, k: 1 };
    this.#moved();
  }

  /** Show a row, from near enough to tell it from its neighbours. */
  show(row) {
    [this.view.x, this.view.y] = [this.xy[2 * row], this.xy[2 * row + 1]];
    this.view.k = Math.max(this.view.k, 6);
    this.#moved();
  }

  #paint() {
    if (!this.theme || !this.image) return;
    this.#paintLand();
    this.#paintPoints();
    this.#paintMarks();
  }

  #paintLand() {
    const { base, theme } = this;
    const context = base.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, base.width, base.height);
    if (!this.world) return;
    const [x, y] = this.#toPixel(0, 0);
    context.setTransform(this.scale, 0, 0, -this.scale, x, y);
    const hair = 1 / this.scale;
    context.fillStyle = theme.sea;
    context.fill(this.world);
    context.save();
    context.clip(this.world);
    context.lineWidth = 0.6 * this.ratio * hair;
    context.strokeStyle = theme.grid;
    context.stroke(this.grid);
    context.fillStyle = theme.land;
    context.fill(this.land, "evenodd");
    context.strokeStyle = theme.coast;
    context.lineWidth = 0.7 * this.ratio * hair;
    context.lineJoin = "round";
    context.stroke(this.land);
    context.restore();
    context.strokeStyle = theme.grid;
    context.lineWidth = this.ratio * hair;
    context.stroke(this.world);
  }

  #radius() {
    const base = [[2500, 4.4], [12_000, 3.1], [60_000, 2.1], [250_000, 1.5]].find(([most]) => this.shown <= most)?.[1] ?? 1.1;
    return base * this.ratio * Math.min(2.4, 1 + Math.log2(this.view.k) / 7);
  }

  #paintPoints() {
    const { xy, colours, failed, pixels, picked, theme } = this;
    const { width, height } = this.dots;
    pixels.fill(0);
    picked.fill(-1);
    const [x0, y0, scale] = [...this.#toPixel(0, 0), this.scale];
    const step = this.moving ? Math.max(1, Math.ceil(failed.length / MOVING)) : 1;
    const radius = this.#radius();
    const soft = this.shown <= SOFT;
    const passes = [
      ...(theme.faint ? [[stamp(Math.max(0.8, 0.55 * radius), 0, width, soft), true]] : []),
      [stamp(radius, radius > 2.6 * this.ratio ? 0.9 * this.ratio : 0, width, soft), false],
    ];
    for (const [{ offsets, cover, reach, whole }, isFaint] of passes) {
      const count = offsets.length;
      const [right, bottom] = [width - reach, height - reach];
      for (let row = 0; row < failed.length; row += step) {
        if ((failed[row] !== 0) !== isFaint) continue;
        const cx = Math.round(x0 + xy[2 * row] * scale);
        const cy = Math.round(y0 - xy[2 * row + 1] * scale);
        if (!(cx >= reach && cy >= reach && cx < right && cy < bottom)) continue;
        const colour = isFaint ? theme.faint : colours[row];
        const middle = cy * width + cx;
        if (whole) {
          for (let k = 0; k < count; k++) pixels[middle + offsets[k]] = colour;
          if (!isFaint) for (let k = 0; k < count; k++) picked[middle + offsets[k]] = row;
          continue;
        }
        for (let k = 0; k < count; k++) {
          const at = middle + offsets[k];
          const share = cover[k];
          if (share === RING) pixels[at] = theme.ring;
          else pixels[at] = share === 255 ? colour : blend(pixels[at], share > 0 ? colour : theme.ring, Math.abs(share));
          if (!isFaint && share !== 0) picked[at] = row;
        }
      }
    }
    this.context.putImageData(this.image, 0, 0);
  }

  #paintMarks() {
    const { marks, theme, ratio } = this;
    const context = marks.getContext("2d");
    context.clearRect(0, 0, marks.width, marks.height);
    if (this.box) {
      context.beginPath();
      for (const [k, [lon, lat]] of around(this.box).entries()) {
        const [px, py] = this.#toPixel(...project(lon, lat));
        k ? context.lineTo(px, py) : context.moveTo(px, py);
      }
      context.setLineDash([6 * ratio, 4 * ratio]);
      context.lineWidth = 1.6 * ratio;
      context.strokeStyle = theme.accent;
      context.stroke();
      context.setLineDash([]);
    }
    if (this.marked >= 0) {
      const [px, py] = this.#toPixel(this.xy[2 * this.marked], this.xy[2 * this.marked + 1]);
      for (const [width, colour] of [[5, theme.paper], [2.4, theme.ink]]) {
        context.beginPath();
        context.arc(px, py, this.#radius() + 4.5 * ratio, 0, 7);
        context.lineWidth = width * ratio;
        context.strokeStyle = colour;
        context.stroke();
      }
    }
  }

  /** The row drawn at or near a point of the element, or -1. */
  rowAt(clientX, clientY) {
    const { left, top } = this.host.getBoundingClientRect();
    const [px, py] = [Math.round((clientX - left) * this.ratio), Math.round((clientY - top) * this.ratio)];
    const { width, height } = this.dots;
    const reach = Math.round(7 * this.ratio);
    let [best, nearest] = [-1, Infinity];
    for (let y = Math.max(0, py - reach); y <= Math.min(height - 1, py + reach); y++) {
      for (let x = Math.max(0, px - reach); x <= Math.min(width - 1, px + reach); x++) {
        const row = this.picked[y * width + x];
        const distance = (x - px) ** 2 + (y - py) ** 2;
        if (row >= 0 && distance < nearest) [best, nearest] = [row, distance];
      }
    }
    return best;
  }

  /** The selected row nearest to the middle of the map, or -1. */
  #middleRow() {
    const { xy, failed, view } = this;
    let [best, nearest] = [-1, Infinity];
    for (let row = 0; row < failed.length; row++) {
      const distance = (xy[2 * row] - view.x) ** 2 + (xy[2 * row + 1] - view.y) ** 2;
      if (failed[row] === 0 && distance < nearest) [best, nearest] = [row, distance];
    }
    return best;
  }

  #hint() {
    const hint = this.host.querySelector(".hint");
    hint.classList.add("seen");
    clearTimeout(this.hinting);
    this.hinting = setTimeout(() => hint.classList.remove("seen"), 1200);
  }

  #listen() {
    const { host } = this;
    const fingers = new Map();
    let travelled = 0;
    host.addEventListener("wheel", (event) => {
      // The wheel scrolls the page until the map is meant: by a click, or by a key held down
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== host) return this.#hint();
      event.preventDefault();
      const { left, top } = host.getBoundingClientRect();
      const factor = Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018));
      this.zoom(factor, (event.clientX - left) * this.ratio, (event.clientY - top) * this.ratio);
    }, { passive: false });
    host.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      fingers.set(event.pointerId, event);
      if (fingers.size === 1) travelled = 0;
      host.setPointerCapture(event.pointerId);
      host.focus({ preventScroll: true });
    });
    host.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) {
        if (event.pointerType === "mouse") this.onHover?.(this.rowAt(event.clientX, event.clientY), event.clientX, event.clientY);
        return;
      }
      const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
      travelled += Math.abs(dx) + Math.abs(dy);
      if (fingers.size === 1) this.pan(dx * this.ratio, dy * this.ratio);
      else {
        const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
        const apart = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY) || 1;
        const { left, top } = host.getBoundingClientRect();
        this.pan((dx / 2) * this.ratio, (dy / 2) * this.ratio);
        this.zoom(apart(event) / apart(before), ((event.clientX + other.clientX) / 2 - left) * this.ratio,
          ((event.clientY + other.clientY) / 2 - top) * this.ratio);
      }
      fingers.set(event.pointerId, event);
      this.onHover?.(-1);
    });
    const lift = (event) => {
      const was = fingers.delete(event.pointerId);
      if (!was || event.type !== "pointerup" || travelled > 6 || fingers.size) return;
      const row = this.rowAt(event.clientX, event.clientY);
      if (row >= 0) this.onOpen(row);
    };
    host.addEventListener("pointerup", lift);
    host.addEventListener("pointercancel", lift);
    host.addEventListener("pointerleave", () => {
      this.onHover?.(-1);
    });
    host.addEventListener("dblclick", (event) => {
      const { left, top } = host.getBoundingClientRect();
      this.zoom(2, (event.clientX - left) * this.ratio, (event.clientY - top) * this.ratio);
    });
    host.addEventListener("keydown", (event) => {
      const by = 60 * this.ratio;
      const keys = {
        ArrowLeft: () => this.pan(by, 0),
        ArrowRight: () => this.pan(-by, 0),
        ArrowUp: () => this.pan(0, by),
        ArrowDown: () => this.pan(0, -by),
        "+": () => this.zoom(1.5),
        "=": () => this.zoom(1.5),
        "-": () => this.zoom(1 / 1.5),
        0: () => this.home(),
        Enter: () => this.shown && this.onOpen(this.#middleRow()),
      };
      if (event.target !== host || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}

/**
 * Pixels of a disc about a pixel, as offsets in a canvas of some width, and how much of each it covers, 0 to 255; negative in its
 * outer ring, which has the colour of the ground. Where edges are not soft, a pixel is covered or not: `whole`.
 */
function stamp(radius, ringWidth, width, soft) {
  const reach = Math.ceil(radius + 0.5);
  const [offsets, cover] = [[], []];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const distance = Math.hypot(x, y);
      const share = Math.max(0, Math.min(1, radius + 0.5 - distance));
      if (soft ? share < 0.06 : share < 0.5) continue;
      offsets.push(y * width + x);
      const level = soft ? Math.round(share * 255) : 255;
      cover.push(ringWidth > 0 && distance > radius - ringWidth ? -level : level);
    }
  }
  const whole = cover.every((level) => level === 255);
  return { offsets: Int32Array.from(offsets), cover: Int16Array.from(cover), reach, whole };
}

/** A colour over another, by a share of 255. */
function blend(under, over, share) {
  const alpha = ((over >>> 24) * share) / 255;
  const below = under >>> 24;
  if (below === 0) return ((Math.round(alpha) << 24) | (over & 0xffffff)) >>> 0;
  const part = alpha / 255;
  const blue = ((under >>> 16) & 255) * (1 - part) + ((over >>> 16) & 255) * part;
  const green = ((under >>> 8) & 255) * (1 - part) + ((over >>> 8) & 255) * part;
  const red = (under & 255) * (1 - part) + (over & 255) * part;
  return ((Math.round(alpha + below * (1 - part)) << 24) | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red)) >>> 0;
}

function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    ring.forEach(([x, y], k) => (k ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  return path;
}

function outline() {
  const points = [];
  for (let lat = -90; lat <= 90; lat += 2) points.push(project(180, lat));
  for (let lat = 90; lat >= -90; lat -= 2) points.push(project(-180, lat));
  return points;
}

function graticule() {
  const path = new Path2D();
  for (let lon = -150; lon <= 150; lon += 30) {
    for (let lat = -90; lat <= 90; lat += 3) lat > -90 ? path.lineTo(...project(lon, lat)) : path.moveTo(...project(lon, lat));
  }
  for (let lat = -60; lat <= 60; lat += 30) {
    path.moveTo(...project(-180, lat));
    path.lineTo(...project(180, lat));
  }
  return path;
}

/** A box of longitudes and latitudes, all the way round in small steps. */
function around([west, south, east, north]) {
  const width = west <= east ? east - west : east - west + 360;
  const lon = (k) => ((west + (width * k) / 24 + 540) % 360) - 180 || (k === 24 ? east : west);
  const lat = (k) => south + ((north - south) * k) / 24;
  const steps = [...Array(25).keys()];
  return [
    ...steps.map((k) => [k === 24 ? east : k ? lon(k) : west, south]),
    ...steps.map((k) => [east, lat(k)]),
    ...steps.toReversed().map((k) => [k === 24 ? east : k ? lon(k) : west, north]),
    ...steps.toReversed().map((k) => [west, lat(k)]),
  ];
}
