"""Diffuse intensity of one copy on a whole lattice: the methods behind one function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import ComplexArray, FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank
from offbragg.scattering.engine import Engine
from offbragg.scattering.gaussian import diffuse_intensity
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.nodes import evaluate_at_nodes
from offbragg.scattering.pair_nufft import PairNufft
from offbragg.scattering.pair_splat import PairSplat, bounded
from offbragg.scattering.pair_terms import PairSum
from offbragg.scattering.sampling import draw_displacements
from offbragg.scattering.scatterers import Scatterers
from offbragg.scattering.structure_factors import structure_factors_on_lattice

ENGINE = Engine()
# Structure factors of samples: errors of their squares add up coherently near q = 0.
_SAMPLE_TOLERANCE = 1e-7
# What the methods for scattered q can hold of form factors, phases and their like a node.
_BYTES_A_NODE_AND_ATOM = 64.0


def diffuse_on_lattice(
    lattice: HalfLattice,
    positions: FloatArray,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray,
    displacements: Displacements,
    engine: Engine = ENGINE,
    alternatives: tuple[IntArray, IntArray] | None = None,
) -> FloatArray | ComplexArray:
    """Diffuse intensity on every node of a lattice.

    Parameters
    ----------
    lattice : HalfLattice
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    elements : sequence of str, length n_atoms
    occupancies : ndarray, shape (n_atoms,)
    displacements : Displacements
    engine : Engine
        Method, tolerance, memory, wavelength.
    alternatives : two ndarrays, shape (n_atoms,), int64, optional
        Group (−1: none) and alternative of each atom: alternatives of one group exclude each
        other.

    Returns
    -------
    ndarray, ``lattice.shape``
        [e²] of this one copy; 0 beyond ``lattice.q_max``. float64, never negative; with a
        wavelength complex128: even part + i × odd part, ``I(±q) = Re ± Im``.

    Raises
    ------
    InputError
        If a shape does not match or the method cannot do what is asked.

    Notes
    -----
    "splat": time O(n_atoms²), one Gaussian a pair, plus one FFT per product of form factors;
    "pair-nufft": O(n_atoms²) points in some four NUFFTs; "gemm" and "direct" O(n_atoms²) a node;
    "one-phonon" as "splat"; "sampled": one structure-factor transform a sample. Memory is kept
    below ``engine.max_memory`` beside the covariance itself where the work can be cut.

    Where the lattice asks for means over voxels, each pair is weighted by
    ``Π_k sinc(e_k · x_ij)``, x_ij the fractional separation and e_k the voxel's edges in hkl: the
    transform of a voxel, taken at the middle of the pair's Gaussian. Form factors and widths stay
    those at the node: an error of a few 1e-3 of the mean where a voxel is a small part of 1/U,
    more for the few voxels around q = 0.
    """
    displacements.check_shapes(len(positions))
    groups, kinds = alternatives if alternatives is not None else (None, None)
    scatterers = Scatterers(
        positions, np.asarray(elements, dtype=str), occupancies, engine.wavelength, groups, kinds
    )
    pair_sum = PairSum(lattice, scatterers, displacements)
    is_still = displacements.pairs is None and not np.any(pair_sum.u_aniso)
    if is_still and groups is None:
        return np.zeros(lattice.shape)
    method = engine.method
    if method == "auto":
        can_nufft = displacements.is_isotropic and engine.wavelength is None
        method = "pair-nufft" if can_nufft else "splat"
    if method == "splat":
        return PairSplat(pair_sum, engine).intensity()
    if method == "pair-nufft":
        return PairNufft(pair_sum, engine).intensity()
    if method == "one-phonon":
        return _one_phonon(pair_sum, engine)
    _check_plain(pair_sum, method)
    if method == "sampled":
        return sampled_on_lattice(lattice, scatterers, displacements, engine)[0]
    covariance = displacements.dense(len(positions))
    nodes_at_once = max(1, int(0.3 * engine.max_memory / (_BYTES_A_NODE_AND_ATOM * len(positions))))
    values = evaluate_at_nodes(
        lattice,
        scatterers,
        lambda q, f: diffuse_intensity(
            q, positions, f, covariance, method, 0.1 * engine.rtol, engine.max_memory
        ),
        nodes_at_once,
    )
    return bounded(lattice, values, lattice.q_squared())


def uncorrelated_on_lattice(
    lattice: HalfLattice,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray,
    u_aniso: FloatArray,
    engine: Engine = ENGINE,
) -> FloatArray | ComplexArray:
    """Diffuse intensity of atoms that move independently, ``Σ f_i² [1 − exp(−qᵀU_i q)]``.

    Splats a Gaussian of covariance 2 U_i at the origin for each atom. Parameters and result are
    those of `diffuse_on_lattice`.
    """
    return diffuse_on_lattice(
        lattice, np.zeros((len(u_aniso), 3)), elements, occupancies,
        Displacements(independent=u_aniso), engine,
    )  # fmt: skip


def sampled_on_lattice(
    lattice: HalfLattice, scatterers: Scatterers, displacements: Displacements, engine: Engine
) -> tuple[FloatArray, FloatArray]:
    """Mean over drawn displacements of |F|², less the known |⟨F⟩|², and its standard error.

    Parameters
    ----------
    lattice : HalfLattice
    scatterers : Scatterers
    displacements : Displacements
        Within one unit.
    engine : Engine
        ``n_samples`` and ``seed`` of the draws.

    Returns
    -------
    intensity, standard_error : ndarray, ``lattice.shape``, float64
        [e²]. The error falls as 1/√n_samples; errors of different nodes are correlated.

    Notes
    -----
    ``|F − ⟨F⟩|²`` is averaged, which has the same mean and, near Bragg positions, far less
    scatter.
    """
    _check_plain(PairSum(lattice, scatterers, displacements), "sampled")
    if engine.wavelength is not None:
        raise InputError("method 'sampled' has no anomalous scattering on a lattice: use 'splat'")
    n_atoms = len(scatterers)
    rng = np.random.default_rng(engine.seed)
    atoms = scatterers.elements, scatterers.occupancies
    mean_f = structure_factors_on_lattice(
        lattice, scatterers.positions, *atoms, displacements.u_aniso(n_atoms), _SAMPLE_TOLERANCE
    )
    # Displacements are drawn from a factor; a dense covariance is factored once.
    covariance = displacements.correlated
    if displacements.independent is None and isinstance(covariance, LowRank):
        factor = covariance
    else:
        factor = factor_of(displacements.dense(n_atoms))
    total, squares = np.zeros(lattice.shape), np.zeros(lattice.shape)
    still = np.zeros((n_atoms, 3, 3))
    engine.progress.start("samples", engine.n_samples)
    for _ in range(engine.n_samples):
        moved = scatterers.positions + draw_displacements(factor, 1, rng)[0]
        f = structure_factors_on_lattice(lattice, moved, *atoms, still, _SAMPLE_TOLERANCE)
        f -= mean_f
        values = f.real**2 + f.imag**2
        total += values
        squares += values**2
        engine.progress.step()
    n = engine.n_samples
    mean = total / n
    spread = np.sqrt(np.maximum(squares / n - mean**2, 0.0) / max(n - 1, 1))
    return bounded(lattice, mean, lattice.q_squared()).real, spread


def factor_of(covariance: FloatArray) -> LowRank:
    """Factor P of a dense covariance V = P Pᵀ, by its eigenvalues; negative ones are dropped."""
    n = len(covariance)
    is_isotropic = covariance.ndim == 2
    flat = covariance if is_isotropic else covariance.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    values, vectors = np.linalg.eigh(flat)
    kept = values > 1e-12 * max(float(values[-1]), 1e-300)
    factor = vectors[:, kept] * np.sqrt(values[kept])
    return LowRank(factor if is_isotropic else factor.reshape(n, 3, -1))


def _one_phonon(pair_sum: PairSum, engine: Engine) -> FloatArray | ComplexArray:
    """First order in V: what the uncorrelated intensity changes by in the direction of V."""
    n = len(pair_sum.scatterers)
    if pair_sum.displacements.pairs is not None or pair_sum.scatterers.groups is not None:
        raise InputError("method 'one-phonon' needs a covariance within one unit, altlocs together")
    moves = pair_sum.displacements
    apart = Displacements(
        None if moves.correlated is None else LowRank(np.zeros((n, 1))), moves.u_aniso(n)
    )
    splat = PairSplat(PairSum(pair_sum.lattice, pair_sum.scatterers, apart, by_pairs=True), engine)
    return bounded(pair_sum.lattice, splat.first_order(moves), pair_sum.lattice.q_squared())


def _check_plain(pair_sum: PairSum, method: str) -> None:
    """Check that nothing is asked that only sums over listed pairs can do."""
    for what, is_asked in (
        ("means over voxels", pair_sum.lattice.voxel is not None),
        ("exclusive altlocs", pair_sum.scatterers.groups is not None),
        ("motions that reach across copies", pair_sum.displacements.pairs is not None),
    ):
        if is_asked:
            raise InputError(f"method {method!r} cannot do {what}: use 'splat' or 'auto'")
