"""Test of the Gaussian approximation: how far it is from the Guinier average of the same frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import TWO_PI, BoolArray, ComplexArray, FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import ENGINE
from offbragg.disorder.ensemble import Ensemble
from offbragg.disorder.guinier import (
    Amplitudes,
    amplitudes_at_points,
    averages_left_out,
    blocks_of_frames,
    mean_and_spread,
    unbiasing_factor,
)
from offbragg.errors import InputError
from offbragg.runtime import SILENT, Progress
from offbragg.scattering.displacements import as_blocks
from offbragg.scattering.engine import Engine
from offbragg.scattering.form_factors import compute_form_factors
from offbragg.scattering.gaussian import diffuse_intensity
from offbragg.scattering.lattice import HalfLattice


@dataclass(frozen=True, eq=False)
class GaussianComparison:
    r"""Guinier average against Gaussian approximation, in shells of equal volume of q.

    Attributes
    ----------
    d : ndarray, shape (n_shells,), float64
        2π / mean \|q\| of the shell [Å].
    guinier, gaussian : ndarray, shape (n_shells,), float64
        Mean intensities [e²]. The Gaussian formula of an estimated covariance is biased, by some
        1/n_frames of itself; the jackknife has taken that bias off.
    difference : ndarray, shape (n_shells,), float64
        guinier − gaussian [e²].
    standard_error : ndarray, shape (n_shells,), float64
        Of the difference, from sampling [e²]. Both come from the same frames: much less than the
        error of either.
    cc : ndarray, shape (n_shells,), float64
        Pearson correlation of the two over the points of the shell.
    n_blocks : int
        Blocks of frames that were left out in turn.
    """

    d: FloatArray
    guinier: FloatArray
    gaussian: FloatArray
    difference: FloatArray
    standard_error: FloatArray
    cc: FloatArray
    n_blocks: int


def compare_gaussian(
    structure: AtomicStructure,
    ensemble: Ensemble,
    where: FloatArray | HalfLattice,
    n_shells: int = 10,
    n_blocks: int = 20,
    engine: Engine = ENGINE,
    progress: Progress = SILENT,
) -> GaussianComparison:
    r"""Compare the Guinier average of frames with the Gaussian formula for their covariance.

    Parameters
    ----------
    structure : AtomicStructure
        Elements, occupancies and, where the ensemble is damped, U of the atoms; one copy.
    ensemble : Ensemble
        Its ``approximation`` does not matter.
    where : ndarray, shape (n_q, 3), or HalfLattice
        Scattering vectors [Å⁻¹], or a lattice without voxels; q = 0 does not count.
    n_shells : int
        Shells of equal volume between the smallest and the largest \|q\|.
    n_blocks : int
        Blocks of consecutive frames to leave out in turn, or fewer where that cuts more evenly.
        For a trajectory so few that blocks are longer than its frames are correlated.
    engine : Engine
        For a lattice.
    progress : Progress, optional
        Told of each frame and block.

    Returns
    -------
    GaussianComparison

    Raises
    ------
    InputError
        If a number is too small, or the lattice has voxels.

    Notes
    -----
    Two Guinier averages and n_blocks + 1 Gaussian intensities.
    """
    if n_shells < 1 or n_blocks < 2:
        raise InputError(f"n_shells must be >= 1 and n_blocks >= 2, got {n_shells} and {n_blocks}")
    unit = ensemble.coherent_unit(structure)
    frames, shares = ensemble.frames, ensemble.shares
    terms = _terms(unit, ensemble, where, engine)
    shells = _Shells.of(terms.q_length, n_shells)
    blocks = blocks_of_frames(shares, -(-len(frames) // n_blocks))

    progress.start("frames", 2 * len(frames) + len(blocks) + 1)

    def amplitudes() -> Iterator[ComplexArray]:
        for f in terms.amplitudes():
            progress.step()
            yield f

    mean, spread = mean_and_spread(amplitudes, shares)
    guinier = terms.own_motion + unbiasing_factor(shares) * spread
    gaussian = terms.gaussian(frames, shares)
    progress.step()
    rest_gaussian, rest_difference = [], []
    left_out = averages_left_out(amplitudes, shares, mean, spread, blocks)
    for block, rest_guinier in zip(blocks, left_out, strict=True):
        kept = np.delete(np.arange(len(frames)), block)
        rest_gaussian.append(shells.means(terms.gaussian(frames[kept], shares[kept])))
        rest = shells.means(terms.own_motion + rest_guinier)
        rest_difference.append(rest - rest_gaussian[-1])
        progress.step()
    n = len(blocks)
    unbiased = n * shells.means(gaussian) - (n - 1) * np.mean(rest_gaussian, axis=0)
    return GaussianComparison(
        d=TWO_PI / shells.means(terms.q_length),
        guinier=shells.means(guinier),
        gaussian=unbiased,
        difference=shells.means(guinier) - unbiased,
        standard_error=np.sqrt((n - 1) * np.var(rest_difference, axis=0)),
        cc=shells.correlations(guinier, gaussian),
        n_blocks=n,
    )


@dataclass(frozen=True, eq=False)
class _Terms:
    """What `compare_gaussian` compares, at the points of arrays of one shape.

    q_length [Å⁻¹], 0 at points that do not count; F of each frame; intensity of the atoms' own
    motion; Gaussian intensity [e²] from frames and weights.
    """

    q_length: FloatArray
    amplitudes: Amplitudes
    own_motion: FloatArray
    gaussian: Callable[[FloatArray, FloatArray], FloatArray]


def _terms(
    unit: AtomicStructure, ensemble: Ensemble, where: FloatArray | HalfLattice, engine: Engine
) -> _Terms:
    def model(frames: FloatArray, weights: FloatArray) -> Ensemble:
        return Ensemble(frames, weights, "gaussian", damped=ensemble.damped)

    if isinstance(where, HalfLattice):
        if where.voxel is not None:
            raise InputError("compare_gaussian needs a lattice without voxels")
        q_length = np.sqrt(where.q_squared())
        return _Terms(
            np.where(q_length <= where.q_max * (1 + 1e-9), q_length, 0.0),
            ensemble.amplitudes(where, unit, engine),
            ensemble.own_motion(where, unit, engine),
            lambda x, w: model(x, w).diffuse_on_lattice(where, unit, "model", engine).real,
        )
    q = np.asarray(where, dtype=np.float64)
    form_factors = compute_form_factors(unit.elements, q, unit.occupancies)
    u_aniso = unit.u_aniso if ensemble.damped else np.zeros_like(unit.u_aniso)
    damping = np.exp(-0.5 * np.einsum("qx,axy,qy->qa", q, u_aniso, q, optimize=True))

    def gaussian(frames: FloatArray, weights: FloatArray) -> FloatArray:
        part = model(frames, weights)
        v = part.displacements(unit).dense(unit.n_atoms)
        return diffuse_intensity(q, part.mean, form_factors, as_blocks(v))

    return _Terms(
        np.linalg.norm(q, axis=1),
        amplitudes_at_points(q, ensemble.frames, form_factors * damping),
        np.sum(form_factors**2 * (1.0 - damping**2), axis=1),
        gaussian,
    )


@dataclass(frozen=True, eq=False)
class _Shells:
    """Shells of equal volume: which points count, and the shell of each that does."""

    counts: BoolArray
    index: IntArray
    n_shells: int

    @classmethod
    def of(cls, q_length: FloatArray, n_shells: int) -> _Shells:
        counts = q_length > 0
        if not np.any(counts):
            raise InputError("where must hold a scattering vector other than 0")
        cubes = q_length[counts] ** 3
        low, high = float(cubes.min()), float(cubes.max())
        # A little above, so that equivalent points on an edge are in one shell.
        place = n_shells * (cubes - low) / max(high - low, 1e-300) + 1e-9
        return cls(counts, np.minimum(place.astype(np.int64), n_shells - 1), n_shells)

    def means(self, values: FloatArray) -> FloatArray:
        """Mean of the values in each shell; NaN where it is empty."""
        return self._means(values[self.counts])

    def correlations(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Pearson correlation in each shell; NaN where one does not vary."""
        x, y = x[self.counts], y[self.counts]
        x, y = x - self._means(x)[self.index], y - self._means(y)[self.index]
        with np.errstate(invalid="ignore"):
            cc: FloatArray = self._means(x * y) / np.sqrt(self._means(x * x) * self._means(y * y))
        return cc

    def _means(self, values: FloatArray) -> FloatArray:
        n = np.bincount(self.index, minlength=self.n_shells)
        with np.errstate(invalid="ignore"):
            means: FloatArray = np.bincount(self.index, values, self.n_shells) / n
        return means
