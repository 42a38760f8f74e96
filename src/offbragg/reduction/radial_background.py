r"""Background as a smooth function of the scattering angle: few images without the crystal suffice.

Air, windows and slits scatter the same all around the beam. With κ_i the corrections of a pixel
(solid angle, polarisation, absorption, air, which *do* vary around the beam) and n images, its
photons are Poisson numbers about n g(2θ_i)/κ_i. Their sums over rings r are too:

.. math:: N_r \sim \mathrm{Poisson}(E_r\, e^{\eta(2\theta_r)}),\qquad
          E_r = n\sum_{i\in r} 1/\kappa_i,\quad \eta = \ln g = \sum_k c_k B_k

c maximises the likelihood less a penalty on the differences of neighbouring c, as strong as
generalised cross-validation wants. Pixels that do not fit their ring, on either side, are left out
before: peaks, hot pixels, edges of shadows. The variance of η is that of c given the data, times
what the rings scatter more than Poisson numbers. It is *common* to the pixels of a ring.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.reduction._filter_kernels import ring_levels
from offbragg.reduction.experiment import Beam
from offbragg.reduction.image_filter import poisson_limits
from offbragg.reduction.observations import axes_across
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.reduction.smooth_function import Axis

logger = logging.getLogger(__name__)

#: A warning where more of the background than this is not radial: where air and crystal scatter
#: alike, that is 5 % of anisotropy, as much as many crystals' own.
NOT_RADIAL = 0.05
_N_RINGS, _N_INTERVALS = 512, 100
_N_SECTORS, _RINGS_A_SECTOR = 16, 16
_PENALTIES = np.geomspace(1e-2, 1e8, 21)
_FEWEST_PHOTONS = 100
_N_ROUNDS, _SETTLED = 60, 1e-8
_SURE = 4.0  # standard deviations; less is taken for chance


@dataclass(frozen=True, eq=False)
class RadialModel:
    """Where pixels lie around the beam, and what their counts are multiplied by.

    Attributes
    ----------
    two_theta, azimuth, factors : tuple of ndarray, shape (slow, fast)
        One a panel [rad, rad, 1].
    """

    two_theta: tuple[Float32Array, ...]
    azimuth: tuple[Float32Array, ...]
    factors: tuple[Float32Array, ...]

    @classmethod
    def of_tables(cls, tables: Sequence[PixelTable], beam: Beam) -> RadialModel:
        """Take the tables of a detector's pixels."""
        axes = axes_across(beam)
        angles, azimuths, factors = [], [], []
        for table in tables:
            shape = table.excluded.shape
            x, y = (table.directions @ axis.astype(np.float32) for axis in axes)
            along = table.directions @ beam.direction.astype(np.float32)
            angles.append(np.arctan2(np.hypot(x, y), along).reshape(shape))
            azimuths.append(np.arctan2(y, x).reshape(shape))
            factors.append(table.factors.reshape(shape))
        return cls(tuple(angles), tuple(azimuths), tuple(factors))

    def smooth(
        self, mean: Sequence[Float32Array], n_images: int
    ) -> tuple[tuple[Float32Array, ...], tuple[Float32Array, ...]]:
        """Fit g to a mean background.

        Parameters
        ----------
        mean : sequence of ndarray, shape (slow, fast)
            Photons of a pixel, mean over images; NaN = excluded.
        n_images : int

        Returns
        -------
        photons, variances : tuple of ndarray, shape (slow, fast), float32
            Of the model, one a panel.

        Raises
        ------
        InputError
            If there are fewer than 100 photons in all.
        """
        good = [np.isfinite(b) & np.isfinite(k) for b, k in zip(mean, self.factors, strict=True)]
        two_theta = _joined(self.two_theta, good)
        counts = n_images * _joined(mean, good)
        share = n_images / _joined(self.factors, good)
        if counts.sum() < _FEWEST_PHOTONS:
            raise InputError(
                f"background_model 'radial': expected {_FEWEST_PHOTONS} photons or more, got "
                f"{counts.sum():g}"
            )
        low, high = float(two_theta.min()), float(two_theta.max())
        width = max(high - low, 1e-6) / _N_RINGS
        ring = np.minimum(((two_theta - low) / width).astype(np.int16), _N_RINGS - 1)
        kept = _fitting(ring, counts, share)
        photons_of, share_of = (
            np.bincount(ring[kept], x[kept], minlength=_N_RINGS).astype(np.float64)
            for x in (counts, share)
        )
        eta, variance = fit_log_rate(photons_of, share_of)
        places = low + width * (np.arange(_N_RINGS) + 0.5)

        expected = np.exp(np.interp(two_theta, places, eta)) * share
        sector = _sectors(ring, _joined(self.azimuth, good))
        part = not_radial(sector[kept], counts[kept], expected[kept])
        (logger.warning if part > NOT_RADIAL else logger.info)(
            "background: a function of the scattering angle fitted to %d images, its error is "
            "%.2g %%; %.2g %% of the background is not radial",
            n_images, 100 * np.sqrt(np.average(variance, weights=photons_of)), 100 * part,
        )  # fmt: skip
        photons, variances = [], []
        for angle, factor in zip(self.two_theta, self.factors, strict=True):
            model = np.exp(np.interp(angle, places, eta)) / factor
            photons.append(model.astype(np.float32))
            relative = np.interp(angle, places, variance)
            variances.append((relative * model**2).astype(np.float32))
        return tuple(photons), tuple(variances)


def fit_log_rate(counts: FloatArray, exposures: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit a smooth logarithm of the rate to Poisson numbers, by penalised likelihood.

    Parameters
    ----------
    counts, exposures : ndarray, shape (n,)
        Numbers at n places evenly spaced, and what the rate is multiplied by; 0: no number there.

    Returns
    -------
    eta, variance : ndarray, shape (n,)
        The logarithm of the rate, and its variance.

    Examples
    --------
    >>> eta, variance = fit_log_rate(np.full(200, 400.0), np.full(200, 100.0))
    >>> bool(np.allclose(np.exp(eta), 4.0)), bool(variance.max() < 1 / 400)
    (True, True)
    """
    axis = Axis(0.0, 1.0, min(_N_INTERVALS, max(1, len(counts) // 2)))
    design = axis.design((np.arange(len(counts)) + 0.5) / len(counts)).toarray()
    rough = axis.differences().toarray()
    penalty = rough.T @ rough
    c = np.full(axis.n_splines, np.log(counts.sum() / exposures.sum()))
    best = None
    for strength in _PENALTIES[::-1]:
        c = _maximise(design, counts, exposures, strength * penalty, c)
        eta = design @ c
        expected = exposures * np.exp(eta)
        normal = design.T @ (expected[:, None] * design)
        inverse = np.linalg.pinv(normal + strength * penalty, hermitian=True)
        n, freedom = np.count_nonzero(exposures), float(np.sum(inverse * normal))
        there = exposures > 0
        square = float(np.sum((counts - expected)[there] ** 2 / expected[there]))
        score = square / max(n - freedom, 1.0) ** 2
        if best is None or score < best[0]:
            scatter = max(1.0, square / max(n - freedom, 1.0))
            variance = scatter * np.einsum("ij,jk,ik->i", design, inverse, design)
            best = score, eta, variance
    assert best is not None
    return best[1], best[2]


def not_radial(sector: IntArray, counts: FloatArray, expected: FloatArray) -> float:
    """Estimate the rms of what sectors of rings differ by, as a part; 0 where it may be chance.

    Parameters
    ----------
    sector : ndarray, shape (n_pixels,), int
        Number of each pixel's sector.
    counts, expected : ndarray, shape (n_pixels,)
        Poisson numbers, and their means by the model.
    """
    found = np.bincount(sector, counts)
    model = np.bincount(sector, expected)
    excess = float(np.sum((found - model) ** 2 - model))
    by_chance = float(np.sqrt(np.sum(2 * model**2 + model)))
    if excess < _SURE * by_chance:
        return 0.0
    return float(np.sqrt(excess / np.sum(model**2)))


def _maximise(
    design: FloatArray,
    counts: FloatArray,
    exposures: FloatArray,
    penalty: FloatArray,
    c: FloatArray,
) -> FloatArray:
    """Newton's method for the coefficients, steps of η bounded."""
    for _ in range(_N_ROUNDS):
        expected = exposures * np.exp(design @ c)
        slope = design.T @ (counts - expected) - penalty @ c
        normal = design.T @ (expected[:, None] * design) + penalty
        normal += 1e-10 * np.trace(normal) / len(c) * np.eye(len(c))
        step = np.linalg.solve(normal, slope)
        largest = float(np.abs(step).max())
        c = c + step / max(1.0, largest)
        if largest < _SETTLED:
            break
    return c


def _joined(panels: Sequence[Float32Array], good: Sequence[BoolArray]) -> FloatArray:
    """Pixels of all panels that are good, (n_pixels,)."""
    parts = [x[mask] for x, mask in zip(panels, good, strict=True)]
    return np.concatenate(parts).astype(np.float64)


def _fitting(ring: IntArray, counts: FloatArray, share: FloatArray) -> BoolArray:
    """Mark the pixels (n_pixels,) that fit their ring."""
    order = np.argsort(ring, kind="stable")
    ends = np.searchsorted(ring[order], np.arange(_N_RINGS + 1))
    n_pixels = np.maximum(np.diff(ends), 1)
    mean_share = np.bincount(ring, share, _N_RINGS) / n_pixels
    alike = counts[order] / share[order] * mean_share[ring[order]]
    level, spread = np.zeros(_N_RINGS), np.zeros(_N_RINGS)
    ring_levels(alike.astype(np.float32), ends, poisson_limits(), level, spread)
    expected = level[ring] / mean_share[ring] * share
    z, steps, table = poisson_limits()
    root = np.sqrt(np.maximum(expected, 0.0))
    chance = expected + z * root + np.interp(root, np.arange(len(table)) / steps, table)
    wide = z * spread[ring] * share / mean_share[ring]
    return (counts < np.maximum(chance, expected + wide)) & (
        counts > expected - np.maximum(z * root, wide)
    )


def _sectors(ring: IntArray, azimuth: FloatArray) -> IntArray:
    """Number the parts of rings that pixels are in."""
    turn = ((azimuth / (2 * np.pi) + 0.5) * _N_SECTORS).astype(np.int64) % _N_SECTORS
    return (ring.astype(np.int64) // _RINGS_A_SECTOR) * _N_SECTORS + turn
