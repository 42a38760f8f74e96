// A plane of points origin + i u + j v, drawn at its true angles: u to the right, v upwards.

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const length = (a) => Math.sqrt(dot(a, a));
const scaled = (a, s) => a.map((x) => x * s);
const plus = (a, b) => a.map((x, i) => x + b[i]);

export class PlaneGeometry {
  constructor(plane) {
    const { origin, u, v } = plane.cartesian;
    this.plane = plane;
    const along = scaled(u, 1 / length(u));
    const across = plus(v, scaled(along, -dot(v, along)));
    const up = scaled(across, 1 / length(across));
    this.uX = length(u);
    this.vX = dot(v, along);
    this.vY = dot(v, up);
    this.oX = dot(origin, along);
    this.oY = dot(origin, up);
    // Height of the plane over the origin.
    const foot = plus(origin, plus(scaled(along, -this.oX), scaled(up, -this.oY)));
    this.height = length(foot);
    this.along = along;
    this.up = up;
  }

  // Points i, j to the plane's own x, y [Å⁻¹ or Å], about the foot of the perpendicular.
  xy(i, j) { return [this.oX + i * this.uX + j * this.vX, this.oY + j * this.vY]; }

  ij(x, y) {
    const j = (y - this.oY) / this.vY;
    return [(x - this.oX - j * this.vX) / this.uX, j];
  }

  // Coordinates (h k l, or x y z) of a point.
  coordinates(i, j) {
    const { origin, u, v } = this.plane;
    return origin.map((x, n) => x + i * u[n] + j * v[n]);
  }

  // Distance from the origin: 1/d [Å⁻¹], or of a separation [Å].
  distance(i, j) {
    const [x, y] = this.xy(i, j);
    const found = Math.hypot(x, y, this.height);
    // Rounding alone is 0.
    return found < 1e-9 * this.uX ? 0 : found;
  }

  reach(limit) {
    const [nU, nV] = this.plane.shape;
    const corners = [[0, 0], [nU, 0], [0, nV], [nU, nV]].map(([i, j]) => Math.hypot(...this.xy(i, j)));
    const most = Math.max(...corners);
    return limit ? Math.min(most, Math.sqrt(Math.max(limit * limit - this.height ** 2, (0.05 * limit) ** 2))) : most;
  }
}
