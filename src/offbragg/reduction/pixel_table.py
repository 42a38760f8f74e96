"""What is the same for all images of a panel, worked out once: rays, κ, offsets, exclusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import BoolArray, FloatArray
from offbragg.reduction._run_kernels import RUN, bound_runs
from offbragg.reduction.corrections import correction_factor
from offbragg.reduction.experiment import Beam, Panel
from offbragg.reduction.panel_arrays import Pixels

Float32Array = NDArray[np.float32]
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class PixelTable:
    """What is the same for all images of a panel.

    Attributes
    ----------
    directions : ndarray, shape (n_pixels, 3), float32
        Unit vectors of the scattered rays, slow axis first. float32 makes errors of 1e-7 times
        the cell edge over the wavelength in hkl, 1e-5 for 100 Å.
    factors : ndarray, shape (n_pixels,), float32
        κ, see `corrections`, the flat field included.
    excluded : ndarray, shape (slow, fast), bool
        Never used: masked, or without a κ or a dark value.
    nearness : ndarray, shape (n_pixels,), float32
        One over the distance from the crystal [mm⁻¹].
    steps : ndarray, shape (2, 3), float64
        From one pixel to the next along fast and slow [mm].
    offset : ndarray, shape (slow, fast), float32, or float
        What a pixel reads without X-rays [ADU]: pedestal, and dark image.
    gain : float
        [ADU per photon].
    chips : ndarray, shape (n_pixels,) or (0,), uint16
        Number of the chip that each pixel is of, see `chips.number_chips`; none where all are of
        one.
    bounds : ndarray, shape (n_runs, 4), float64
        Centre and radius of a ball about the directions of each `RUN` consecutive pixels.
    """

    directions: Float32Array
    factors: Float32Array
    excluded: BoolArray
    nearness: Float32Array
    steps: FloatArray
    offset: Float32Array | float = 0.0
    gain: float = 1.0
    chips: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, dtype=np.uint16))
    bounds: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        bounds = np.empty((-(-len(self.directions) // RUN), 4))
        bound_runs(self.directions, bounds)
        object.__setattr__(self, "bounds", bounds)

    @classmethod
    def of_panel(
        cls,
        panel: Panel,
        beam: Beam,
        corrections: Sequence[str],
        reference: float,
        excluded: BoolArray,
        *,
        air_fraction: float = 1.0,
        flat_field: FloatArray | None = None,
        dark: FloatArray | None = None,
        chips: NDArray[np.uint16] | None = None,
    ) -> PixelTable:
        """Compute the table of a panel, a few rows at a time.

        Parameters
        ----------
        panel : Panel
        beam : Beam
        corrections : sequence of str
            See `corrections.correction_factor`.
        reference : float
            Reference solid angle [sr].
        excluded : ndarray, shape (slow, fast), bool
            Pixels that are masked.
        air_fraction : float
            Part of the way from crystal to pixel that is air.
        flat_field : ndarray, shape (slow, fast), optional
            F, what counts are divided by; pixels of NaN or 0 are excluded.
        dark : ndarray, shape (slow, fast), optional
            Dark image of one exposure [ADU], besides the pedestal; pixels of NaN are excluded.
        chips : ndarray, shape (slow, fast), optional
            Number of the chip that each pixel is of.
        """
        n_slow, n_fast = panel.shape
        directions = np.empty((n_slow, n_fast, 3), dtype=np.float32)
        factors = np.empty((n_slow, n_fast), dtype=np.float32)
        nearness = np.empty((n_slow, n_fast), dtype=np.float32)
        for first in range(0, n_slow, _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            positions = panel.pixel_positions(rows=rows)
            distance = np.linalg.norm(positions, axis=-1)
            directions[rows] = positions / distance[..., None]
            nearness[rows] = 1 / distance
            kappa = correction_factor(panel, beam, corrections, reference, rows, air_fraction)
            # Numbers too large for float32 become infinite, and so excluded.
            with np.errstate(divide="ignore", over="ignore"):
                factors[rows] = kappa if flat_field is None else kappa / flat_field[rows]
        without = ~np.isfinite(factors)
        offset: Float32Array | float = panel.pedestal
        if dark is not None:
            with np.errstate(over="ignore"):
                offset = (panel.pedestal + dark).astype(np.float32)
            without |= ~np.isfinite(offset)
        fast, slow = panel.pixel_size
        return cls(
            directions=directions.reshape(-1, 3),
            factors=factors.reshape(-1),
            excluded=excluded | without,
            nearness=nearness.reshape(-1),
            steps=np.stack([panel.fast_axis * fast, panel.slow_axis * slow]),
            offset=offset,
            gain=panel.gain,
            chips=np.empty(0, dtype=np.uint16) if chips is None else chips.reshape(-1),
        )

    def photons(self, image: Pixels, untrusted: BoolArray) -> Float32Array:
        r"""Turn the raw values of an image into photons, (ADU − dark − pedestal)/gain.

        Parameters
        ----------
        image : ndarray, shape (slow, fast)
            [ADU].
        untrusted : ndarray, shape (slow, fast), bool
            Pixels of this image that are not to be used, see `masks.mask_untrusted`.

        Returns
        -------
        ndarray, shape (slow, fast), float32
            NaN where a pixel is excluded, here or for good.
        """
        values = image.astype(np.float32)
        if np.ndim(self.offset) > 0 or self.offset != 0:
            values -= self.offset
        if self.gain != 1:
            values /= self.gain
        np.copyto(values, np.float32(np.nan), where=untrusted | self.excluded)
        return values
