r"""The shape of Bragg spots in reciprocal space: a Gaussian, growing with |q|.

In the crystal's Cartesian frame its covariance is

.. math:: \Sigma(q) = \Sigma_0 + |q|^2 \left[ m_t^2 (1 - \hat q \hat q^T)
          + m_r^2 \hat q \hat q^T \right] ,

Σ₀ for the crystal's size, the beam and the pixels, m_t for mosaic spread [radians], m_r for what
cells and wavelengths spread, relative to themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from offbragg.conventions import FloatArray


@dataclass(frozen=True, eq=False)
class SpotShape:
    """What the spots of a sweep look like.

    Attributes
    ----------
    covariance : ndarray, shape (3, 3), float64
        Σ₀ [Å⁻²], in the crystal's Cartesian frame (`Cell.frac_matrix`).
    mosaic : float
        m_t, rms [radians].
    spread : float
        m_r, rms, relative.
    n_spots : int
        That stood out, of those it was fitted to.
    """

    covariance: FloatArray
    mosaic: float = 0.0
    spread: float = 0.0
    n_spots: int = 0

    def at(self, q: FloatArray) -> FloatArray:
        """Σ (..., 3, 3) [Å⁻²] at nodes q (..., 3) [Å⁻¹]."""
        outer = q[..., :, None] * q[..., None, :]
        across = np.sum(q * q, axis=-1)[..., None, None] * np.eye(3) - outer
        found: FloatArray = self.covariance + self.mosaic**2 * across + self.spread**2 * outer
        return found

    @property
    def axes(self) -> FloatArray:
        """Standard deviations (3,) of Σ₀ along its own axes [Å⁻¹], the largest first."""
        found: FloatArray = np.sqrt(np.linalg.eigvalsh(self.covariance)[::-1])
        return found

    def __str__(self) -> str:
        """What a log says."""
        a, b, c = self.axes
        return (
            f"{a:.4f} × {b:.4f} × {c:.4f} Å⁻¹, mosaic spread {np.degrees(self.mosaic):.3f}°, "
            f"radial {100 * self.spread:.2f} %, {self.n_spots} spots"
        )

    def as_dict(self) -> dict[str, Any]:
        """What a map's file says."""
        return {
            "covariance": self.covariance.tolist(),
            "axes": self.axes.tolist(),
            "mosaic": self.mosaic,
            "spread": self.spread,
            "n_spots": self.n_spots,
        }
