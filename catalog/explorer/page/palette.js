// Colours of classes and of numbers; those of classes come from the server, so that maps of plans and this page agree.
const CIVIDIS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"];
const OTHER = [150, 155, 158];

const parse = (hex) => [0, 2, 4].map((k) => parseInt(hex.replace("#", "").slice(k, k + 2), 16));
const mix = (a, b, share) => a.map((value, k) => Math.round(value + share * (b[k] - value)));
export const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
export const packed = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

const channel = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);

export class Palette {
  constructor(colours, dark) {
    this.dark = dark;
    // What is dark on paper would be lost on a dark screen, and what is bright on paper: both are moved until they stand out
    this.colours = colours.map(parse).map((colour) => {
      let shown = colour;
      for (let k = 0; k < 6 && dark && luminance(shown) < 0.16; k++) shown = mix(shown, [255, 255, 255], 0.18);
      for (let k = 0; k < 6 && !dark && luminance(shown) > 0.6; k++) shown = mix(shown, [0, 0, 0], 0.12);
      return shown;
    });
  }

  /** Of a class by its number; 0 is none. The most frequent have colours of their own, the others share grey. */
  of(number) {
    return number > 0 && number <= this.colours.length ? this.colours[number - 1] : OTHER;
  }

  /** Of a number between 0 and 1, brighter is more; the end that the background swallows is left out. */
  ramp(share) {
    const [from, to] = this.dark ? [0.22, 1] : [0, 0.9];
    const at = (from + (to - from) * Math.max(0, Math.min(1, share))) * (CIVIDIS.length - 1);
    const k = Math.min(CIVIDIS.length - 2, Math.floor(at));
    return mix(parse(CIVIDIS[k]), parse(CIVIDIS[k + 1]), at - k);
  }

  get none() {
    return OTHER;
  }
}
