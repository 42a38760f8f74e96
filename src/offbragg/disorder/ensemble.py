r"""Motion as a set of conformers: frames of a trajectory, models of a file.

The diffuse intensity of real frames needs no Gaussian approximation (Guinier):

.. math:: I(\mathbf q) = \frac{\sum_k w_k |F_k|^2 - |\sum_k w_k F_k|^2}{1 - \sum_k w_k^2},
          \quad \sum_k w_k = 1

divided so because the mean ⟨F⟩ comes from the same frames. How far it is from the Gaussian formula
with the frames' covariance is the test of that formula: `compare_gaussian`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import TWO_PI, BoolArray, ComplexArray, FloatArray, IntArray
from offbragg.crystal.ensembles import as_frame_weights, as_frames, superpose
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import ENGINE, DisorderModel
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering.displacements import Displacements, LowRank, as_blocks
from offbragg.scattering.engine import Engine
from offbragg.scattering.form_factors import compute_form_factors
from offbragg.scattering.gaussian import diffuse_intensity
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.on_lattice import diffuse_on_lattice
from offbragg.scattering.structure_factors import (
    compute_structure_factors,
    structure_factors_on_lattice,
)

APPROXIMATIONS = ("none", "gaussian")
# Phases in memory at once at scattered q: 16 MB.
_PHASES_AT_ONCE = 1 << 20
# Means over voxels are sums over points that give the mean of every wave to this.
_VOXEL_ERROR = 3e-4

# Gives the structure factors of all frames, one after the other, each time it is called.
_Amplitudes = Callable[[], Iterator[ComplexArray]]


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble(DisorderModel):
    r"""Frames of the structure's atoms, in their order; the structure's positions do not count.

    For atoms of the whole cell give frames of it and the structure ``s.to_p1()``.

    Attributes
    ----------
    frames : ndarray, shape (n_frames, n_atoms, 3), float64
        Cartesian [Å], in the crystal's frame.
    weights : ndarray, shape (n_frames,), float64
        Made to sum to 1. None: all alike.
    approximation : {"none", "gaussian"}
        "none": the Guinier average over the frames as they are; Bragg intensities alone are then
        of the Gaussian approximation. "gaussian": atoms around their mean positions with the
        frames' covariance, which is divided by 1 − Σw².
    superposed : bool
        Whether to superpose the frames on their mean first, which takes out motion of the whole.
    damped : bool
        Whether each atom also moves by itself, by the structure's U_i, in every frame: damps the F
        of the frames and adds ``Σ f_i² [1 − exp(−qᵀU_i q)]``.

    Raises
    ------
    InputError
        If frames or weights are not such arrays, or fewer than two frames have weight.

    References
    ----------
    .. [1] Guinier, X-ray Diffraction in Crystals, Imperfect Crystals, and Amorphous Bodies (1963).
    .. [2] Wall, Van Benschoten, Sauter, Adams, Fraser & Terwilliger, PNAS 111, 17887 (2014).

    Examples
    --------
    >>> Ensemble([[[0.0, 0.0, 0.0]], [[0.2, 0.0, 0.0]]])
    Ensemble(2 frames of 1 atoms, approximation='none', superposed=False, damped=False)
    """

    frames: FloatArray
    weights: FloatArray | None = None
    approximation: str = "none"
    superposed: bool = False
    damped: bool = False

    def __post_init__(self) -> None:
        if self.approximation not in APPROXIMATIONS:
            expected = " ".join(APPROXIMATIONS)
            raise InputError(f"approximation must be one of {expected}, got {self.approximation!r}")
        frames, weights = _checked(self.frames, self.weights)
        if self.superposed:
            frames = superpose(frames, weights=weights)
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "weights", weights)

    def __repr__(self) -> str:
        n_frames, n_atoms, _ = self.frames.shape
        return (
            f"Ensemble({n_frames} frames of {n_atoms} atoms, "
            f"approximation={self.approximation!r}, superposed={self.superposed}, "
            f"damped={self.damped})"
        )

    @property
    def is_truncated(self) -> bool:
        """Whether the frames are taken as they are: then no covariance gives the intensity."""
        return self.approximation == "none"

    @property
    def has_closed_form(self) -> bool:
        """Whether the intensity is made from the frames themselves."""
        return self.approximation == "none"

    @property
    def shares(self) -> FloatArray:
        """Weights of the frames, which sum to 1, shape (n_frames,)."""
        return as_frame_weights(self.weights, len(self.frames))

    @property
    def mean(self) -> FloatArray:
        """Weighted mean of the frames, shape (n_atoms, 3) [Å]."""
        mean: FloatArray = np.tensordot(self.shares, self.frames, axes=1)
        return mean

    def coherent_unit(self, structure: AtomicStructure) -> AtomicStructure:
        """Return the structure with its atoms at their mean positions over the frames."""
        n_atoms = self.frames.shape[1]
        if n_atoms != structure.n_atoms:
            raise InputError(
                f"frames must be of the structure's {structure.n_atoms} atoms, got {n_atoms}"
            )
        return replace(structure, positions=self.mean)

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the covariance of the frames about their mean, unbiased, by its factor [Å²]."""
        self.coherent_unit(structure)
        factor = covariance_factor(self.frames, self.weights)
        return Displacements(LowRank(factor), structure.u_aniso if self.damped else None)

    def with_adps(self, structure: AtomicStructure, adps: str) -> Displacements:
        """Return the displacements; ``adps="file"`` needs the Gaussian approximation.

        Raises
        ------
        InputError
            As `DisorderModel.with_adps`, and for "file" where frames are taken as they are.
        """
        if adps == "file" and self.approximation == "none":
            raise InputError(
                "adps='file' needs Ensemble(approximation='gaussian'): an ADP can be filled up "
                "from a covariance, not from frames (damped=True adds the whole ADP to them)"
            )
        return super().with_adps(structure, adps)

    def diffuse_on_lattice(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        adps: str = "model",
        engine: Engine = ENGINE,
    ) -> FloatArray | ComplexArray:
        """Diffuse intensity [e²] of one copy: Guinier average, or Gaussian approximation.

        The average takes one transform of the atoms a frame, some tens where the lattice asks for
        means over voxels, and memory for a few lattices.
        """
        unit = self.coherent_unit(structure)
        if self.approximation == "gaussian":
            return super().diffuse_on_lattice(lattice, unit, adps, engine)
        self.with_adps(unit, adps)
        intensity = np.zeros(lattice.shape)
        for offset, share in _voxel_points(lattice, self.frames):
            _, spread = _moments(self.amplitudes(lattice, unit, engine, offset), self.shares)
            intensity += share * _unbias(self.shares) * spread
        intensity += self.own_motion(lattice, unit, engine)
        if lattice.voxel is None:
            intensity[lattice.extent[0], lattice.extent[1], 0] = 0.0
        return intensity

    def error_on_lattice(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        block_size: int = 1,
        engine: Engine = ENGINE,
    ) -> FloatArray:
        """Standard error [e²] of the Guinier average at the nodes of a lattice.

        As `guinier_error`; two transforms of the atoms a frame. Where the lattice asks for means
        over voxels, this is still the error at the nodes.
        """
        unit = self.coherent_unit(structure)
        amplitudes = self.amplitudes(lattice, unit, engine)
        return _jackknife_error(amplitudes, self.shares, _blocks(self.shares, block_size))

    def amplitudes(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        engine: Engine = ENGINE,
        offset: FloatArray | None = None,
    ) -> _Amplitudes:
        """Return a function that gives F [electrons] of each frame in turn at a lattice's nodes.

        With ``offset`` (3 numbers in hkl) at points so far from the nodes, but for form factors
        and damping, which are those at the nodes.
        """
        if engine.wavelength is not None or engine.altlocs != "together" or engine.method != "auto":
            raise InputError(
                "Ensemble(approximation='none') needs wavelength=None, altlocs='together' and "
                f"method='auto', got {engine.wavelength}, {engine.altlocs!r}, {engine.method!r}"
            )
        u_aniso = structure.u_aniso if self.damped else np.zeros_like(structure.u_aniso)
        # |F − ⟨F⟩|² is wrong by 2 |F − ⟨F⟩| times the error of F, and wanted to rtol of
        # Σ f² (1 − e^{−q²U}).
        u_mean = np.mean(self.shares @ np.square(self.frames - self.mean).mean(axis=2))
        diffuse_share = float(np.clip(-np.expm1(-0.6 * lattice.q_max**2 * u_mean), 1e-6, 1.0))
        tolerance = 0.1 * engine.rtol * np.sqrt(diffuse_share) / structure.n_atoms

        def transform(frame: FloatArray, occupancies: FloatArray) -> ComplexArray:
            return structure_factors_on_lattice(
                lattice, frame, structure.elements, occupancies, u_aniso, tolerance
            )

        def every() -> Iterator[ComplexArray]:
            for frame in self.frames:
                if offset is None:
                    yield transform(frame, structure.occupancies)
                    continue
                phase = TWO_PI * (frame @ lattice.cell.frac_matrix.T) @ offset
                odd = transform(frame, structure.occupancies * np.sin(phase))
                yield transform(frame, structure.occupancies * np.cos(phase)) + 1j * odd

        return every

    def own_motion(
        self, lattice: HalfLattice, structure: AtomicStructure, engine: Engine = ENGINE
    ) -> FloatArray:
        """Intensity [e²] of the motion of each atom by itself; 0 unless ``damped``."""
        if not self.damped:
            return np.zeros(lattice.shape)
        intensity: FloatArray = np.real(
            diffuse_on_lattice(
                lattice, structure.positions, structure.elements, structure.occupancies,
                Displacements(independent=structure.u_aniso), engine,
            )
        )  # fmt: skip
        return intensity


def guinier_intensity(
    q: FloatArray,
    frames: ArrayLike,
    form_factors: FloatArray,
    weights: ArrayLike | None = None,
) -> FloatArray:
    r"""Diffuse intensity of frames at scattered q, by their structure factors F_k.

    .. math:: I = \frac{\sum_k w_k |F_k|^2 - |\sum_k w_k F_k|^2}{1 - \sum_k w_k^2}

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    frames : array, shape (n_frames, n_atoms, 3)
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons]; the same for every frame.
    weights : array, shape (n_frames,), optional
        Made to sum to 1. None: all alike.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²], of this one copy; never negative; unbiased for independent frames.

    Raises
    ------
    InputError
        If a shape does not match, or fewer than two frames have weight.

    Notes
    -----
    Time O(n_frames n_q n_atoms), about 30 ns a term; memory for a few arrays (n_q,).

    References
    ----------
    .. [1] Guinier, X-ray Diffraction in Crystals, Imperfect Crystals, and Amorphous Bodies (1963).

    Examples
    --------
    One atom at two places d apart: f² (1 − cos q·d).

    >>> q, frames = np.array([[1.0, 0.0, 0.0]]), [[[0.0, 0.0, 0.0]], [[np.pi, 0.0, 0.0]]]
    >>> guinier_intensity(q, frames, np.array([[6.0]])).round(6).tolist()
    [72.0]
    """
    x, shares = _checked(frames, weights)
    _, spread = _moments(_at_points(q, x, form_factors), shares)
    return _unbias(shares) * spread


def guinier_error(
    q: FloatArray,
    frames: ArrayLike,
    form_factors: FloatArray,
    weights: ArrayLike | None = None,
    block_size: int = 1,
) -> FloatArray:
    r"""Standard error of `guinier_intensity`, by leaving out blocks of frames in turn (jackknife).

    .. math:: \sigma^2 = \frac{n-1}{n} \sum_{b=1}^{n} (I_{-b} - \overline{I_{-b}})^2

    Parameters
    ----------
    q, frames, form_factors, weights
        As for `guinier_intensity`.
    block_size : int
        Consecutive frames in a block; the last may have fewer. For a trajectory, longer than its
        frames are correlated: the error grows with the block until then.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²]; with n blocks itself uncertain by some 1/√(2n) of it.

    Raises
    ------
    InputError
        As `guinier_intensity`, or if a block leaves fewer than two frames of weight.

    Notes
    -----
    Twice the time of `guinier_intensity`.

    References
    ----------
    .. [1] Künsch, Ann. Stat. 17, 1217 (1989).

    Examples
    --------
    >>> q, frames = np.array([[1.0, 0.0, 0.0]]), np.zeros((4, 1, 3))
    >>> guinier_error(q, frames, np.array([[6.0]])).tolist()
    [0.0]
    """
    x, shares = _checked(frames, weights)
    return _jackknife_error(_at_points(q, x, form_factors), shares, _blocks(shares, block_size))


def covariance_factor(frames: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Factor P of the unbiased covariance of frames, ``V = P Pᵀ``.

    Its columns are ``√(w_k / (1 − Σw²)) (x_k − ⟨x⟩)``, gathered into 3 n_atoms of them where there
    are more frames.

    Parameters
    ----------
    frames : array, shape (n_frames, n_atoms, 3)
        Cartesian [Å].
    weights : array, shape (n_frames,), optional
        Made to sum to 1. None: all alike.

    Returns
    -------
    ndarray, shape (n_atoms, 3, k), float64
        [Å]; k the smaller of n_frames and 3 n_atoms, the rank below n_frames.

    Raises
    ------
    InputError
        As `guinier_intensity`.

    Examples
    --------
    >>> p = covariance_factor([[[0.0, 0.0, 0.0]], [[0.2, 0.0, 0.0]]])
    >>> float((p[0, 0] @ p[0, 0]).round(6))
    0.02
    """
    x, shares = _checked(frames, weights)
    deviations = (x - np.tensordot(shares, x, axes=1)).reshape(len(x), -1)
    rows = np.sqrt(_unbias(shares) * shares)[:, None] * deviations
    if len(rows) > rows.shape[1]:
        rows = np.asarray(np.linalg.qr(rows, mode="r"), dtype=np.float64)
    return np.ascontiguousarray(rows.T.reshape(-1, 3, len(rows)))


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
    blocks = _blocks(shares, -(-len(frames) // n_blocks))

    mean, spread = _moments(terms.amplitudes, shares)
    guinier = terms.own_motion + _unbias(shares) * spread
    gaussian = terms.gaussian(frames, shares)
    rest_gaussian, rest_difference = [], []
    left_out = _left_out(terms.amplitudes, shares, mean, spread, blocks)
    for block, rest_guinier in zip(blocks, left_out, strict=True):
        kept = np.delete(np.arange(len(frames)), block)
        rest_gaussian.append(shells.means(terms.gaussian(frames[kept], shares[kept])))
        rest = shells.means(terms.own_motion + rest_guinier)
        rest_difference.append(rest - rest_gaussian[-1])
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
    amplitudes: _Amplitudes
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
        _at_points(q, ensemble.frames, form_factors * damping),
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


def _checked(frames: ArrayLike, weights: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """Frames and weights as arrays, the weights summing to 1, at least two of them not 0."""
    x = as_frames(frames)
    shares = as_frame_weights(weights, len(x))
    n_weighty = np.count_nonzero(shares)
    if n_weighty < 2:
        raise InputError(f"frames must be at least 2 with weight, got {n_weighty} of {len(x)}")
    return x, shares


def _unbias(shares: FloatArray) -> float:
    """1 / (1 − Σw²)."""
    return float(1.0 / (1.0 - shares @ shares))


def _at_points(q: FloatArray, frames: FloatArray, form_factors: FloatArray) -> _Amplitudes:
    """F of each frame at scattered q."""
    q = np.asarray(q, dtype=np.float64)
    expected = (len(q), frames.shape[1])
    if form_factors.shape != expected:
        raise InputError(f"form_factors must be {expected}, got {form_factors.shape}")
    chunks = list(iter_chunks(len(q), max(1, _PHASES_AT_ONCE // frames.shape[1])))

    def every() -> Iterator[ComplexArray]:
        for frame in frames:
            parts = [compute_structure_factors(q[c], frame, form_factors[c]) for c in chunks]
            yield np.concatenate(parts)

    return every


def _moments(amplitudes: _Amplitudes, shares: FloatArray) -> tuple[ComplexArray, FloatArray]:
    """⟨F⟩ and ⟨|F − ⟨F⟩|²⟩, frame by frame, so that nothing cancels (West 1979)."""
    total = 0.0
    mean: ComplexArray = np.zeros(1, dtype=np.complex128)
    spread: FloatArray = np.zeros(1)
    for share, f in zip(shares, amplitudes(), strict=True):
        if share == 0.0:
            continue
        total += share
        step = f - mean
        mean = mean + (share / total) * step
        left = f - mean
        spread = spread + share * (step.real * left.real + step.imag * left.imag)
    return mean, spread


def _blocks(shares: FloatArray, block_size: int) -> list[slice]:
    """Blocks of consecutive frames, each of which leaves two frames of weight."""
    if block_size < 1:
        raise InputError(f"block_size must be >= 1, got {block_size}")
    blocks = list(iter_chunks(len(shares), block_size))
    weighty = shares != 0
    if any(np.count_nonzero(weighty) - np.count_nonzero(weighty[b]) < 2 for b in blocks):
        raise InputError(
            "block_size must leave at least 2 frames of weight, "
            f"got {block_size} of {len(shares)} frames"
        )
    return blocks


def _left_out(
    amplitudes: _Amplitudes,
    shares: FloatArray,
    mean: ComplexArray,
    spread: FloatArray,
    blocks: list[slice],
) -> Iterator[FloatArray]:
    """Guinier averages without each block in turn, from ⟨F⟩ and spread of all frames."""
    frames = amplitudes()
    for block in blocks:
        squares, moved = np.zeros(spread.shape), np.zeros(mean.shape, dtype=np.complex128)
        for share in shares[block]:
            f = next(frames) - mean
            squares += share * (f.real**2 + f.imag**2)
            moved += share * f
        rest = 1.0 - shares[block].sum()
        rest_squares = shares @ shares - shares[block] @ shares[block]
        squares += (moved.real**2 + moved.imag**2) / rest
        yield (spread - squares) / (rest - rest_squares / rest)


def _jackknife_error(
    amplitudes: _Amplitudes, shares: FloatArray, blocks: list[slice]
) -> FloatArray:
    mean, spread = _moments(amplitudes, shares)
    whole = _unbias(shares) * spread
    total, squares = np.zeros(spread.shape), np.zeros(spread.shape)
    for rest in _left_out(amplitudes, shares, mean, spread, blocks):
        total += rest - whole
        squares += (rest - whole) ** 2
    n = len(blocks)
    error: FloatArray = np.sqrt((n - 1) / n * np.maximum(squares - total**2 / n, 0.0))
    return error


def _voxel_points(
    lattice: HalfLattice, frames: FloatArray
) -> list[tuple[FloatArray | None, float]]:
    """Offsets in hkl and weights whose sums are means over voxels, by Gauss's rule.

    As many points along each edge as the waves of the longest separations need, those between
    frames included.
    """
    if lattice.voxel is None:
        return [(None, 1.0)]
    along_edges = frames @ lattice.cell.frac_matrix.T @ lattice.voxel.T
    points: list[tuple[FloatArray | None, float]] = [(np.zeros(3), 1.0)]
    for edge, longest in zip(lattice.voxel, np.ptp(along_edges, axis=(0, 1)), strict=True):
        waves = np.linspace(0.0, longest, 64)
        n_points, wrong = 0, 1.0
        while wrong > _VOXEL_ERROR:
            n_points += 1
            nodes, weights = np.polynomial.legendre.leggauss(n_points)
            means = np.cos(np.pi * np.outer(waves, nodes)) @ weights / 2.0
            wrong = float(np.max(np.abs(means - np.sinc(waves))))
        points = [
            (offset + 0.5 * node * edge, share * 0.5 * weight)
            for offset, share in points
            for node, weight in zip(nodes, weights, strict=True)
        ]
    return points
