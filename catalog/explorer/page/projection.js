// Equal Earth (Šavrič, Patterson and Jenny 2018), EPSG:8857 on a sphere of radius 1: areas are true, so that what looks dense is dense.
const [A1, A2, A3, A4] = [1.340264, -0.081106, 0.000893, 0.003796];
const M = Math.sqrt(3) / 2;
const RADIANS = Math.PI / 180;

/** Half the width and half the height of the world. */
export const EAST = 2.7066299836959;
export const NORTH = 1.3173627591574;

export function project(lon, lat) {
  const t = Math.asin(M * Math.sin(lat * RADIANS));
  const t2 = t * t;
  const t6 = t2 * t2 * t2;
  return [
    (lon * RADIANS * Math.cos(t)) / (M * (A1 + 3 * A2 * t2 + t6 * (7 * A3 + 9 * A4 * t2))),
    t * (A1 + A2 * t2 + t6 * (A3 + A4 * t2)),
  ];
}

/** Longitude and latitude in degrees; longitudes beyond the edge of the world are cut there. */
export function invert(x, y) {
  let t = Math.max(-NORTH, Math.min(NORTH, y)) / A1;
  for (let step = 0; step < 12; step++) {
    const t2 = t * t;
    const t6 = t2 * t2 * t2;
    const slope = A1 + 3 * A2 * t2 + t6 * (7 * A3 + 9 * A4 * t2);
    t -= (t * (A1 + A2 * t2 + t6 * (A3 + A4 * t2)) - Math.max(-NORTH, Math.min(NORTH, y))) / slope;
  }
  const t2 = t * t;
  const t6 = t2 * t2 * t2;
  const lon = (x * M * (A1 + 3 * A2 * t2 + t6 * (7 * A3 + 9 * A4 * t2))) / Math.cos(t) / RADIANS;
  const lat = Math.asin(Math.max(-1, Math.min(1, Math.sin(t) / M))) / RADIANS;
  return [Math.max(-180, Math.min(180, lon)), lat];
}
