"""`Panel`: one flat detector panel, and where its pixels are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.reduction._checks import checked_array, set_unit_vectors

_MOST_PIXELS = 1_000_000  # along an axis; more is damage


@dataclass(frozen=True, eq=False)
class Panel:
    """A flat panel; pixel (i, j), fast and slow from 0, covers [i, i+1) × [j, j+1).

    Attributes
    ----------
    name : str
    origin : ndarray, shape (3,)
        Outer corner of pixel (0, 0) in the laboratory [mm]; the crystal is at 0.
    fast_axis, slow_axis : ndarray, shape (3,)
        Directions of i and j, made unit vectors here.
    pixel_size : tuple of 2 float
        Along fast and slow [mm].
    image_size : tuple of 2 int
        Pixels along fast and slow. Arrays of pixels have the other order, `shape`.
    trusted_range : tuple of 2 float
        Smallest and largest value of a good pixel [ADU], both good.
    thickness, mu : float
        Of the sensor [mm], and its absorption coefficient [mm⁻¹]; 0: not known.
    gain, pedestal : float
        photons = (ADU − pedestal) / gain.
    mask : tuple of tuple of 4 int
        Rectangles (x0, y0, x1, y1) that are no pixels: x0 <= i < x1, y0 <= j < y1.
    parallax : bool
        Whether the geometry was refined with photons absorbed below the surface in mind, as
        DIALS does for pixel detectors (ParallaxCorrectedPxMmStrategy).
    raw_image_offset : tuple of 2 int, or None
        Fast and slow pixel of the file's image where this panel begins, for files that hold all
        panels in one image.

    Raises
    ------
    InputError
        If a size is not positive or the axes are not at right angles.
    """

    name: str
    origin: FloatArray
    fast_axis: FloatArray
    slow_axis: FloatArray
    pixel_size: tuple[float, float]
    image_size: tuple[int, int]
    trusted_range: tuple[float, float] = (-np.inf, np.inf)
    thickness: float = 0.0
    mu: float = 0.0
    gain: float = 1.0
    pedestal: float = 0.0
    mask: tuple[tuple[int, int, int, int], ...] = ()
    parallax: bool = False
    raw_image_offset: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", checked_array("origin", self.origin, (3,)))
        set_unit_vectors(self, "fast_axis", "slow_axis")
        if abs(self.fast_axis @ self.slow_axis) > 1e-3:
            raise InputError(
                f"panel {self.name!r}: fast_axis and slow_axis must be at right angles, got "
                f"{self.fast_axis.tolist()} and {self.slow_axis.tolist()}"
            )
        if len(self.pixel_size) != 2 or not all(size > 0 for size in self.pixel_size):
            raise InputError(
                f"panel {self.name!r}: pixel_size must be > 0 mm, got {self.pixel_size}"
            )
        if len(self.image_size) != 2 or not all(1 <= n <= _MOST_PIXELS for n in self.image_size):
            raise InputError(
                f"panel {self.name!r}: image_size must be >= 1 pixels, got {self.image_size}"
            )
        if len(self.trusted_range) != 2 or np.isnan(self.trusted_range).any():
            raise InputError(
                f"panel {self.name!r}: trusted_range must be two numbers, got {self.trusted_range}"
            )
        for name in ("thickness", "mu"):
            if not getattr(self, name) >= 0:
                raise InputError(
                    f"panel {self.name!r}: {name} must be >= 0, got {getattr(self, name)}"
                )
        if not (self.gain > 0 and np.isfinite([self.gain, self.pedestal]).all()):
            raise InputError(
                f"panel {self.name!r}: gain must be > 0 and pedestal a number, got {self.gain} "
                f"and {self.pedestal}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (slow, fast) of the panel's arrays of pixels."""
        return int(self.image_size[1]), int(self.image_size[0])

    @property
    def normal(self) -> FloatArray:
        """Unit normal (3,), fast × slow; it may point to the crystal or away from it."""
        normal = np.cross(self.fast_axis, self.slow_axis)
        unit: FloatArray = normal / np.linalg.norm(normal)
        return unit

    @property
    def pixel_area(self) -> float:
        """Area of a pixel [mm²]."""
        return float(self.pixel_size[0] * self.pixel_size[1])

    def pixel_positions(
        self,
        fast_offset: float = 0.5,
        slow_offset: float = 0.5,
        rows: slice = slice(None),
    ) -> FloatArray:
        """Positions (n_slow, n_fast, 3) in the laboratory [mm] of a point in every pixel.

        Parameters
        ----------
        fast_offset, slow_offset : float
            The point in the pixel: 0 and 0 its first corner, ½ and ½ its centre.
        rows : slice
            Of the slow axis, to save memory; all by default.

        Returns
        -------
        ndarray, float64
            With `parallax`, the point of the surface that the ray absorbed (on average) under
            the pixel's point has passed through.
        """
        x = (np.arange(self.image_size[0]) + fast_offset) * self.pixel_size[0]
        y = (np.arange(self.image_size[1])[rows] + slow_offset) * self.pixel_size[1]
        positions = (
            self.origin + x[None, :, None] * self.fast_axis + y[:, None, None] * self.slow_axis
        )
        if not (self.parallax and self.mu > 0 and self.thickness > 0):
            return positions
        directions = positions / np.linalg.norm(positions, axis=-1, keepdims=True)
        depth = mean_absorption_length(directions @ self.normal, self.mu, self.thickness)
        along_fast = (directions @ self.fast_axis * depth)[..., None]
        along_slow = (directions @ self.slow_axis * depth)[..., None]
        shifted: FloatArray = positions - along_fast * self.fast_axis - along_slow * self.slow_axis
        return shifted


def mean_absorption_length(cosine: FloatArray, mu: float, thickness: float) -> FloatArray:
    r"""Mean length of path in a sensor [mm], counting the photons that pass through as 0.

    .. math:: \frac1\mu - \left(\frac{t}{|\cos\alpha|} + \frac1\mu\right)
              e^{-\mu t/|\cos\alpha|}

    This is the integral of x μ e^{−μx} over the sensor, DIALS's definition, so that its refined
    geometry is used as it was meant.

    Parameters
    ----------
    cosine : ndarray
        Of the angle between ray and normal of the panel.
    mu, thickness : float
        Absorption coefficient [mm⁻¹] and thickness [mm] of the sensor, both > 0.
    """
    path = thickness / np.abs(cosine)
    length: FloatArray = 1 / mu - (path + 1 / mu) * np.exp(-mu * path)
    return length
