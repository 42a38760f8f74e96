r"""Motion as a set of conformers: frames of a trajectory, models of a file.

The diffuse intensity of real frames needs no Gaussian approximation (Guinier):

.. math:: I(\mathbf q) = \frac{\sum_k w_k |F_k|^2 - |\sum_k w_k F_k|^2}{1 - \sum_k w_k^2},
          \quad \sum_k w_k = 1

divided so because the mean ⟨F⟩ comes from the same frames. How far it is from the Gaussian formula
with the frames' covariance is the test of that formula: `offbragg.disorder.gaussian_test`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import TWO_PI, ComplexArray, FloatArray
from offbragg.crystal.frames import as_frame_weights, superpose
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import ENGINE, DisorderModel
from offbragg.disorder.guinier import (
    Amplitudes,
    blocks_of_frames,
    checked_frames,
    jackknife_error,
    mean_and_spread,
    unbiasing_factor,
)
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.on_lattice import diffuse_on_lattice
from offbragg.scattering.structure_factors import structure_factors_on_lattice

APPROXIMATIONS = ("none", "gaussian")
# Means over voxels are sums over points that give the mean of every wave to this.
_VOXEL_ERROR = 3e-4


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
        frames, weights = checked_frames(self.frames, self.weights)
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
            _, spread = mean_and_spread(self.amplitudes(lattice, unit, engine, offset), self.shares)
            intensity += share * unbiasing_factor(self.shares) * spread
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
        return jackknife_error(amplitudes, self.shares, blocks_of_frames(self.shares, block_size))

    def amplitudes(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        engine: Engine = ENGINE,
        offset: FloatArray | None = None,
    ) -> Amplitudes:
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
    x, shares = checked_frames(frames, weights)
    deviations = (x - np.tensordot(shares, x, axes=1)).reshape(len(x), -1)
    rows = np.sqrt(unbiasing_factor(shares) * shares)[:, None] * deviations
    if len(rows) > rows.shape[1]:
        rows = np.asarray(np.linalg.qr(rows, mode="r"), dtype=np.float64)
    return np.ascontiguousarray(rows.T.reshape(-1, 3, len(rows)))


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
