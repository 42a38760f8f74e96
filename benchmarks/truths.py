"""Disorder models beside sums that share nothing with them: V written out, pairs listed anew."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.lysozyme import random_covariance
from offbragg import AtomicStructure, Covariance, LiquidLike, RigidBody, Uncorrelated
from offbragg.disorder.base import DisorderModel
from offbragg.disorder.elastic_network import ElasticNetwork
from offbragg.scattering import compute_form_factors, diffuse_intensity

Truth = Callable[[np.ndarray], np.ndarray]

EXACT_ANISOTROPIC = ("splat", "direct")
EXACT_ISOTROPIC = ("splat", "pair-nufft", "gemm", "direct")


@dataclass(frozen=True)
class Case:
    """A model, its intensity at scattered q by a plain sum, and the methods that can do it.

    ``covariance`` is V (n, n) or (n, n, 3, 3), where one over the unit's atoms gives all.
    ``factor`` (n, 3, rank) is P of V = P Pᵀ where that is at hand.
    """

    name: str
    model: DisorderModel
    truth: Truth
    methods: tuple[str, ...]
    covariance: np.ndarray | None = None
    factor: np.ndarray | None = None
    whole_crystal: bool = False


def form_factors(structure: AtomicStructure, q: np.ndarray) -> np.ndarray:
    """(n_q, n_atoms), occupancies included."""
    return compute_form_factors(structure.elements, q, structure.occupancies)


def cases(structure: AtomicStructure, u: float, length: float, cutoff: float) -> list[Case]:
    """Every model on a structure of one copy in P 1.

    ``u`` [Å²] sizes the motions, ``length`` [Å] is γ, ``cutoff`` [Å] ends the crystal's kernel.
    """
    n, r = structure.n_atoms, structure.positions
    rng = np.random.default_rng(3)
    general = random_covariance(n, u)
    factor = rng.normal(size=(n, min(60, 2 * n)))
    isotropic = factor @ factor.T
    isotropic *= u * n / np.trace(isotropic)
    root = rng.normal(size=(3, 3))
    translation = root @ root.T
    translation *= 3 * u / np.trace(translation)
    modes = rng.normal(size=(n, 3, 6)) * np.sqrt(u / 6)
    distances = np.linalg.norm(r[:, None] - r, axis=2)
    gammas = {
        "exponential": np.exp(-distances / length),
        "gaussian": np.exp(-0.5 * (distances / length) ** 2),
    }
    found = [
        _dense("general anisotropic covariance", structure, Covariance(general), general),
        _dense("isotropic covariance", structure, Covariance(isotropic), isotropic),
        Case("uncorrelated, the file's ADPs", Uncorrelated(), lambda q: _uncorrelated(structure, q),
             EXACT_ANISOTROPIC, _own_blocks(structure)),
        _dense("rigid translation", structure, RigidBody(translation),
               np.broadcast_to(translation, (n, n, 3, 3)).copy()),
        _tls(structure, translation / 2, u),
        *(
            _dense(f"liquid-like, {kernel}", structure,
                   LiquidLike(np.sqrt(u), length, kernel=kernel), u * gamma)
            for kernel, gamma in gammas.items()
        ),
        Case("liquid-like, order 1", LiquidLike(np.sqrt(u), length, order=1),
             lambda q: _first_order(structure, q, u, gammas["exponential"]), ("pair-nufft",)),
        Case("low-rank covariance", Covariance.from_factor(modes),
             lambda q: _plain(structure, q, _product(modes)),
             (*EXACT_ANISOTROPIC, "one-phonon", "sampled"), _product(modes), modes),
    ]  # fmt: skip
    for kind in ("gnm", "anm"):
        nodes = "calpha" if np.count_nonzero(structure.names == "CA") > 30 else "all"
        # Little molecules, altlocs and termini need longer springs to be one stiff network.
        reach = {("gnm", "all"): 6.0, ("anm", "all"): 9.0}.get((kind, nodes))
        model = ElasticNetwork(kind=kind, nodes=nodes, cutoff=reach)
        v = model.displacements(structure).dense(n)
        found.append(_dense(f"elastic network, {kind.upper()}", structure, model, v))
    return [*found, crystal_case(structure, u, length, cutoff)]


def crystal_case(structure: AtomicStructure, u: float, length: float, cutoff: float) -> Case:
    """Liquid-like motions across copies and cells, in the structure's own space group."""
    model = LiquidLike(np.sqrt(u), length, coherence="crystal", cutoff=cutoff)
    return Case(
        f"liquid-like, crystal, to {cutoff:g} Å", model,
        lambda q: _crystal(structure, q, u, length, cutoff), ("splat", "pair-nufft"),
        whole_crystal=True,
    )  # fmt: skip


def first_order_truth(case: Case, structure: AtomicStructure, q: np.ndarray) -> np.ndarray:
    """Σ_k |Σ_i a_i q·p_ik|²: what one-phonon has to give, whatever that is worth."""
    factor = case.factor
    a = _amplitudes(structure, q, np.einsum("iak,ibk->iab", factor, factor))
    total = np.zeros(len(q))
    for k in range(factor.shape[2]):
        total += np.abs(np.einsum("qi,qi->q", a, q @ factor[:, :, k].T)) ** 2
    return total


def _dense(name: str, structure: AtomicStructure, model: DisorderModel, v: np.ndarray) -> Case:
    methods = EXACT_ISOTROPIC if v.ndim == 2 else EXACT_ANISOTROPIC
    return Case(name, model, lambda q: _plain(structure, q, v), methods, v)


def _plain(structure: AtomicStructure, q: np.ndarray, v: np.ndarray) -> np.ndarray:
    f = form_factors(structure, q)
    return diffuse_intensity(q, structure.positions, f, v, method="direct")


def _product(factor: np.ndarray) -> np.ndarray:
    return np.einsum("iak,jbk->ijab", factor, factor, optimize=True)


def _moving(structure: AtomicStructure) -> np.ndarray:
    """The file's U, or the nearest that is one."""
    values, vectors = np.linalg.eigh(structure.u_aniso)
    return np.einsum("iak,ik,ibk->iab", vectors, np.maximum(values, 0.0), vectors)


def _own_blocks(structure: AtomicStructure) -> np.ndarray:
    v = np.zeros((structure.n_atoms, structure.n_atoms, 3, 3))
    every = np.arange(structure.n_atoms)
    v[every, every] = _moving(structure)
    return v


def _uncorrelated(structure: AtomicStructure, q: np.ndarray) -> np.ndarray:
    f = form_factors(structure, q)
    exponents = np.einsum("qa,iab,qb->qi", q, _moving(structure), q, optimize=True)
    return np.sum(-(f**2) * np.expm1(-exponents), axis=1)


def _amplitudes(structure: AtomicStructure, q: np.ndarray, u: np.ndarray) -> np.ndarray:
    exponents = np.einsum("qa,iab,qb->qi", q, u, q, optimize=True)
    phases = np.exp(1j * (q @ structure.positions.T))
    return form_factors(structure, q) * phases * np.exp(-0.5 * exponents)


def _tls(structure: AtomicStructure, translation: np.ndarray, u: float) -> Case:
    """T, L and S of one body; B_i from cross products of the Cartesian axes."""
    r = structure.positions - structure.positions.mean(axis=0)
    rng = np.random.default_rng(4)
    spread = np.mean(np.sum(r**2, axis=1))
    root = rng.normal(size=(3, 3))
    libration = root @ root.T
    libration *= 1.5 * u / (np.trace(libration) * spread / 3)
    # A screw with which [[T, Sᵀ], [S, L]] stays positive semi-definite.
    t_root, l_root = np.linalg.cholesky(translation), np.linalg.cholesky(libration)
    screw = 0.3 * l_root @ np.linalg.qr(rng.normal(size=(3, 3)))[0] @ t_root.T
    arms = np.concatenate(
        [np.tile(np.eye(3), (len(r), 1, 1)),
         np.stack([np.cross(axis, r) for axis in np.eye(3)], axis=2)], axis=2,
    )  # fmt: skip
    motion = np.block([[translation, screw.T], [screw, libration]])
    v = np.einsum("iak,kl,jbl->ijab", arms, motion, arms, optimize=True)
    model = RigidBody(translation, libration, screw)
    return _dense("TLS", structure, model, np.ascontiguousarray(v))


def _first_order(
    structure: AtomicStructure, q: np.ndarray, u: float, gamma: np.ndarray
) -> np.ndarray:
    """q²σ² e^{−q²σ²} Σ_ij f_i f_j cos(q·r_ij) Γ_ij."""
    x = u * np.einsum("qa,qa->q", q, q)
    e = form_factors(structure, q) * np.exp(1j * (q @ structure.positions.T))
    return x * np.exp(-x) * np.einsum("qi,qi->q", np.conj(e), e @ gamma).real


def _crystal(
    structure: AtomicStructure, q: np.ndarray, u: float, length: float, cutoff: float
) -> np.ndarray:
    """Σ over the atoms of a cell, and all atoms of the crystal within the cut-off of each."""
    cell, atoms = structure.require_cell(), structure.to_p1()
    r = atoms.positions
    # Cells whose atoms can be within reach: the atoms of one may lie far outside it.
    spread = cell.frac_matrix @ (r - r.mean(axis=0)).T
    reach = 2 * np.abs(spread).max(axis=1) + cutoff * np.linalg.norm(cell.frac_matrix, axis=1)
    tree = cKDTree(r)
    parts = []
    for shift in itertools.product(*(range(-int(m), int(m) + 1) for m in np.ceil(reach))):
        moved = r + cell.orth_matrix @ np.array(shift, dtype=float)
        near = tree.sparse_distance_matrix(cKDTree(moved), cutoff, output_type="coo_matrix")
        keep = slice(None) if any(shift) else near.row != near.col
        i, j = near.row[keep], near.col[keep]
        parts.append((i, j, r[i] - moved[j]))
    first, second = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    apart = np.concatenate([part[2] for part in parts])
    v = u * np.exp(-np.linalg.norm(apart, axis=1) / length)
    f = form_factors(atoms, q)
    total = np.zeros(len(q))
    for k, vector in enumerate(q):
        x = float(vector @ vector)
        total[k] = -np.expm1(-x * u) * np.sum(f[k] ** 2)
        for start in range(0, len(v), 1 << 18):
            part = slice(start, start + (1 << 18))
            weights = f[k, first[part]] * f[k, second[part]] * np.cos(apart[part] @ vector)
            total[k] += np.exp(-x * u) * float(weights @ np.expm1(x * v[part]))
    # A kernel that is cut is no longer positive: what it makes negative is set to zero.
    return np.maximum(total, 0.0)
