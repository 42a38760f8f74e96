"""What the models mean: maps and covariances beside constructions of the textbook's own kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.stats
from tests.supercell import Supercell

from benchmarks.lysozyme import lysozyme
from benchmarks.results import SHARED_DATA, Limit, finish, size_asked
from offbragg import (
    AtomicStructure,
    ElasticNetwork,
    Ensemble,
    HklGrid,
    LatticeVibrations,
    LiquidLike,
    RigidBody,
    read_structure,
    simulate,
)
from offbragg.crystal.ensembles import read_ensemble
from offbragg.crystal.frames import superpose
from offbragg.crystal.solvent import mask_structure_factors, solvent_mask
from offbragg.crystal.solvent_fit import fit_scale_and_solvent
from offbragg.disorder import compare_gaussian
from offbragg.made_crystal import make_peptide
from offbragg.scattering import compute_form_factors
from offbragg.scattering.structure_factors import structure_factors_on_lattice
from offbragg.simulation import lattice_for

DEGREE = np.pi / 180
LARGEST_TLS_DIFFERENCE = 0.005  # of a voxel: sampling, and rotations that are not small
LARGEST_COVARIANCE_ERROR = 1e-8  # of the largest element: two ways to invert one matrix
LARGEST_HALO_OFFSET = 0.02  # reciprocal-lattice units, centre of a halo off its Bragg node
# The convolution takes form factors at the Bragg positions: an approximation of atom size / γ.
LEAST_HALO_CC = 0.995
HALO_SLOPE = (-2.05, -1.95)  # d log I / d log k of acoustic halos
LARGEST_R, LEAST_WRONG_R = 0.22, 0.45

Found = tuple[list[Limit], list[str], dict[str, object]]


def structure_of(code: str, selection: str | None = None) -> AtomicStructure:
    """A file's atoms, or a made peptide where there are no files."""
    path = SHARED_DATA / "structures" / f"{code}.pdb"
    structure = read_structure(path) if path.is_file() else make_peptide("GASVMGASVM")
    return structure.select(selection) if selection is not None else structure


def tls(*, small: bool) -> Found:
    """A map of TLS motion beside ⟨|F|²⟩ − |⟨F⟩|² over rotations (true ones) and shifts."""
    structure, name = lysozyme()
    structure = structure.take(np.arange(120 if small else structure.n_atoms))
    n_sets, n_draws, n_q, d_min = (4, 256, 10, 6.0) if small else (8, 1024, 60, 2.0)
    rng = np.random.default_rng(1)
    root = np.linalg.cholesky(
        np.diag([0.05, 0.08, 0.06, (0.4 * DEGREE) ** 2, (0.6 * DEGREE) ** 2, (0.5 * DEGREE) ** 2])
    )
    root[3:, :3] = 0.02 * DEGREE * rng.normal(size=(3, 3))
    motion = root @ root.T
    model = RigidBody(motion[:3, :3], motion[3:, 3:], motion[3:, :3])
    grid = HklGrid.from_resolution(structure.require_cell(), d_min)
    # One copy, so that its intensity alone is compared.
    alone = replace(structure, space_group="P 1")
    computed = simulate(alone, model, grid).intensity
    inside = np.flatnonzero(grid.within().reshape(-1) & (grid.inv_d().reshape(-1) > 0))
    chosen = rng.choice(inside, n_q, replace=False)
    q = grid.q().reshape(-1, 3)[chosen]
    f = compute_form_factors(alone.elements, q, alone.occupancies)
    arms = alone.positions - alone.positions.mean(axis=0)
    amplitudes = f * np.exp(1j * (q @ alone.positions.T))
    real, imaginary = amplitudes.real.copy(), amplitudes.imag.copy()
    averages = []
    # Sets of points that fill the distribution evenly, each shifted by chance: their spread is the
    # error, far less than that of as many independent draws.
    for _ in range(n_sets):
        points = scipy.stats.qmc.Sobol(6, rng=rng).random(n_draws)
        squares, mean = np.zeros(n_q), np.zeros(n_q, dtype=complex)
        for draw in scipy.stats.norm.ppf(points) @ root.T:
            moved = arms @ _rotation(draw[3:]).T - arms + draw[:3]
            phases = q @ moved.T
            c, s = np.cos(phases), np.sin(phases)
            amplitude = np.sum(real * c - imaginary * s, axis=1) + 1j * np.sum(
                real * s + imaginary * c, axis=1
            )
            mean += amplitude / n_draws
            squares += np.abs(amplitude) ** 2 / n_draws
        averages.append(squares - np.abs(mean) ** 2)
    average = np.mean(averages, axis=0)
    error = np.std(averages, axis=0, ddof=1) / np.sqrt(n_sets)
    values = computed.reshape(-1)[chosen]
    share = float(np.median(np.abs(values - average) / average))
    overall = float(np.sum(values) / np.sum(average))
    note = (
        f"TLS of {name}, {alone.n_atoms} atoms, {n_q} voxels to {d_min:g} Å, {n_sets} sets of "
        f"{n_draws} motions with true rotations: median difference {100 * share:.2f} %, sum "
        f"{overall:.4f}; sampling error {100 * np.median(error / average):.2f} % of a voxel"
    )
    limits = [
        Limit("TLS map v true motions: median difference", share, at_most=LARGEST_TLS_DIFFERENCE),
        Limit("TLS map v true motions: ratio of sums", overall, 0.99, 1.01),
    ]
    return limits, [note], {"median_difference": share, "ratio_of_sums": overall}


def _rotation(turn: np.ndarray) -> np.ndarray:
    """Rotation by a vector [rad], Rodrigues' formula."""
    angle = float(np.linalg.norm(turn))
    x, y, z = turn / max(angle, 1e-300)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: np.ndarray = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    return rotation


def networks(*, small: bool) -> Found:
    """GNM and ANM of ubiquitin's Cα beside pseudo-inverses of matrices filled spring by spring."""
    structure = structure_of("4xof", "name CA")
    if small:
        structure = structure.take(np.arange(min(25, structure.n_atoms)))
    structure = structure.take(np.flatnonzero(np.isin(structure.altlocs, ["", "A"])))
    r, n = structure.positions, structure.n_atoms
    limits, notes, figures = [], [], {}
    for kind, cutoff, n_null in (("gnm", 10.0, 1), ("anm", 15.0, 6)):
        width = 1 if kind == "gnm" else 3
        hessian = np.zeros((width * n, width * n))
        for i in range(n):
            for j in range(i):
                arm = r[i] - r[j]
                if arm @ arm <= cutoff**2:
                    spring = np.ones((1, 1)) if kind == "gnm" else np.outer(arm, arm) / (arm @ arm)
                    a, b = (slice(width * k, width * k + width) for k in (i, j))
                    hessian[a, a] += spring
                    hessian[b, b] += spring
                    hessian[a, b] -= spring
                    hessian[b, a] -= spring
        inverse = np.linalg.pinv(hessian, rcond=1e-10)
        n_found = int(width * n - np.linalg.matrix_rank(hessian, tol=1e-9 * hessian.max()))
        wanted = np.trace(structure.u_aniso, axis1=1, axis2=2).sum()
        inverse *= wanted / (np.trace(inverse) * (3 if kind == "gnm" else 1))
        model = ElasticNetwork(kind=kind, cutoff=cutoff, nodes="all")
        v = model.displacements(structure).dense(n)
        flat = v if kind == "gnm" else v.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
        error = float(np.abs(flat - inverse).max() / np.abs(inverse).max())
        own = np.trace(structure.u_aniso, axis1=1, axis2=2)
        found = (
            3 * np.diag(v) if kind == "gnm" else np.trace(v[range(n), range(n)], axis1=1, axis2=2)
        )
        cc = float(np.corrcoef(own, found)[0, 1])
        limits.append(
            Limit(f"{kind.upper()} v pseudo-inverse", error, at_most=LARGEST_COVARIANCE_ERROR)
        )
        notes.append(
            f"{kind.upper()}, {n} Cα: largest difference {error:.1e} of the largest element, "
            f"{n_found} null modes (expected {n_null}), correlation with the file's U {cc:.2f}"
        )
        limits.append(Limit(f"{kind.upper()}: null modes", n_found, n_null, n_null))
        figures[kind] = {"error": error, "cc_with_adps": cc}
    return limits, notes, figures


def ensembles(*, small: bool) -> Found:
    """2K39 and the dipeptide, Gaussian v Guinier; and a null case: Gaussian frames of 2K39's V."""
    folder = SHARED_DATA / "ensembles"
    if not folder.is_dir():
        return [], ["no ensembles beside the repository: left out"], {}
    rng = np.random.default_rng(3)
    n_q = 250 if small else 1500
    ubiquitin, frames = read_ensemble(folder / "2k39_ca_116models.pdb", select="resid 1-70")
    frames = superpose(frames)
    moves = Ensemble(frames, approximation="gaussian").displacements(ubiquitin).correlated
    factor = moves.factor.reshape(3 * ubiquitin.n_atoms, -1)
    cases = [("2K39, 116 models, Cα 1-70", ubiquitin, frames, 2.0, 29)]
    trajectory = SHARED_DATA / "trajectories"
    dipeptide, places = read_ensemble(
        trajectory / "ala_dipeptide_frame0.xtc", trajectory / "ala_dipeptide_native.pdb"
    )
    cases.append(("dipeptide, 501 frames", dipeptide, superpose(places), 1.0, 20))
    notes, figures = [], {}
    for name, structure, own, d_min, n_blocks in cases:
        found = compare_gaussian(structure, Ensemble(own), _volume(rng, d_min, n_q), 6, n_blocks)
        share = 100 * found.difference / found.guinier
        error = 100 * found.standard_error / found.guinier
        notes.append(
            f"{name}, Guinier less Gaussian by shells of d = "
            f"{', '.join(f'{d:.1f}' for d in found.d)} Å: "
            f"{', '.join(f'{s:+.1f} ± {e:.1f}' for s, e in zip(share, error, strict=True))} % "
            f"of Guinier; CC {', '.join(f'{c:.2f}' for c in found.cc)}"
        )
        figures[name] = {"d": found.d.tolist(), "per_cent": share.tolist(), "error": error.tolist()}
    z = []
    for _ in range(3 if small else 12):
        drawn = frames.mean(axis=0) + (rng.normal(size=(116, factor.shape[1])) @ factor.T).reshape(
            116, -1, 3
        )
        found = compare_gaussian(ubiquitin, Ensemble(drawn), _volume(rng, 2.0, n_q // 5), 6, 29)
        z += (found.difference / found.standard_error).tolist()
    rms_z = float(np.sqrt(np.mean(np.square(z))))
    notes.append(f"frames drawn from 2K39's own covariance: rms z of the difference {rms_z:.2f}")
    # Shells of one set of frames share its sampling error.
    limit = Limit("Gaussian frames, Guinier v Gaussian: rms z", rms_z, 0.5, 1.6)
    return [limit], notes, figures | {"null_rms_z": rms_z}


def _volume(rng: np.random.Generator, d_min: float, n: int) -> np.ndarray:
    """q spread evenly through the volume between 20 Å and d_min."""
    q = rng.normal(size=(n, 3))
    cubes = rng.uniform((2 * np.pi / 20.0) ** 3, (2 * np.pi / d_min) ** 3, n)
    vectors: np.ndarray = q * (np.cbrt(cubes) / np.linalg.norm(q, axis=1))[:, None]
    return vectors


def halos(*, small: bool) -> Found:
    """Liquid-like motions across the crystal: halos around Bragg nodes, exact v convolution."""
    structure = structure_of("5zck")
    length, steps, d_min = (3.0, 8, 4.0) if small else (7.0, 16, 3.0)
    grid = HklGrid.from_resolution(structure.require_cell(), d_min, (1, 1, steps))
    model = LiquidLike(0.2, length, coherence="crystal")
    intensity = simulate(structure, model, grid).intensity
    halo_model = replace(model, order=3, form="convolution")
    by_convolution = simulate(structure, halo_model, grid).intensity
    bragg = np.nan_to_num(simulate(structure, model, grid, "bragg").intensity)
    half = steps // 2
    offsets = []
    for flat in np.argsort(bragg.reshape(-1))[::-1]:
        h, k, m = np.unravel_index(flat, bragg.shape)
        own = intensity[h, k, max(m - half, 0) : m + half + 1]
        beside = bragg[h, k, max(m - steps, 0) : m + steps + 1 : steps]
        if len(own) < steps + 1 or len(beside) < 3 or not np.all(np.isfinite(own)):
            continue
        # Halos of neighbours overlap: of nodes that stand out along l.
        if max(beside[0], beside[2]) > 0.05 * bragg[h, k, m]:
            continue
        x, above = np.arange(-half, half + 1) / steps, own - own.min()
        near = np.abs(x) <= 0.25
        offsets.append(float(np.sum(x[near] * above[near]) / np.sum(above[near])))
        if len(offsets) == 12:
            break
    offset = float(np.mean(np.abs(offsets)))
    both = np.isfinite(intensity) & (grid.inv_d() > 0.1)
    cc = float(np.corrcoef(intensity[both], by_convolution[both])[0, 1])
    note = (
        f"crystal-wide liquid-like motions of 5ZCK, γ = {length:g} Å: {len(offsets)} halos of "
        f"nodes that stand out along l, centres {offset:.4f} of a reciprocal-lattice unit from "
        f"their nodes; correlation with the convolution of the Bragg comb, beyond 10 Å, {cc:.4f}"
    )
    limits = [
        Limit("halos found", len(offsets), at_least=2 if small else 5),
        Limit("halos: centre off its node", offset, at_most=LARGEST_HALO_OFFSET),
        Limit("halos: CC with the convolution", cc, at_least=LEAST_HALO_CC),
    ]
    return limits, [note], {"offset": offset, "cc_convolution": cc}


def vibrations(*, small: bool) -> Found:
    """Lattice vibrations of 2OL9: acoustic halos, V(L) v a supercell, V_ii v the ADPs."""
    structure = structure_of("2ol9")
    structure = structure.take(np.flatnonzero(np.isin(structure.altlocs, ["", "A"])))
    cell, n_cells = structure.require_cell(), (1, 3, 1) if small else (2, 3, 2)
    limits, notes = [], []
    for level in ("rigid",) if small else ("rigid", "atomic"):
        model = LatticeVibrations(n_cells, level, cutoff=7.0, scale="absolute")
        unit = model.coherent_unit(structure)
        oracle = Supercell(structure, n_cells, [7.0], [1.0], level)
        size = np.abs(oracle.v).max()
        error = max(
            float(np.abs(model.covariance_between(unit, x) - oracle.between(x, n_cells)).max())
            for x in np.ndindex(*n_cells)
        )
        limits.append(
            Limit(f"V(L), {level}, v supercell", error / size, at_most=LARGEST_COVARIANCE_ERROR)
        )
    steps = 48 if small else 96
    model = LatticeVibrations((3, 3, 3), "rigid", cutoff=7.0, order=1)
    f = np.abs(simulate(structure, model, HklGrid.from_resolution(cell, 2.5), "bragg").intensity)
    grid = HklGrid.from_resolution(cell, 2.5)
    slopes = []
    for flat in np.argsort(np.nan_to_num(f).reshape(-1) * (grid.inv_d().reshape(-1) > 0.1))[::-1][
        :6
    ]:
        h, k, m = (round(float(x)) for x in grid.hkl().reshape(-1, 3)[flat])
        line = HklGrid(cell, h + np.arange(-8, 9) / steps, [float(k)], [float(m)], (steps, 1, 1))
        row = simulate(structure, model, line).intensity[:, 0, 0]
        both = np.array([row[8 + s] + row[8 - s] for s in (1, 2, 4, 8)])
        slopes.append(float(np.log2(both[1] / both[0])))
    slope = float(np.mean(slopes))
    limits.append(Limit("acoustic halos: d log I / d log k", slope, *HALO_SLOPE))
    scaled = LatticeVibrations((3, 3, 3), "rigid", cutoff=7.0)
    own = scaled.displacements(structure).u_aniso(structure.n_atoms)
    wanted, got = (np.trace(x, axis1=1, axis2=2) for x in (structure.u_aniso, own))
    limits.append(Limit("Σ V_ii / Σ U_i", float(got.sum() / wanted.sum()), 1 - 1e-9, 1 + 1e-9))
    notes.append(
        f"2OL9, {structure.n_atoms} atoms, {len(slopes)} strongest nodes: slopes "
        f"{', '.join(f'{s:.3f}' for s in slopes)}; V_ii v U_i of the file: correlation "
        f"{np.corrcoef(wanted, got)[0, 1]:.2f}"
    )
    return limits, notes, {"slopes": slopes}


def solvent(*, small: bool) -> Found:
    """4WOR v the measured Bragg intensities, with and without flat solvent, and wrongly indexed."""
    folder = SHARED_DATA / "snase"
    if not folder.is_dir():
        return [], ["no Bragg intensities beside the repository: left out"], {}
    lines = [x for x in (folder / "bragg/snc.hkl").read_text().splitlines()[3:] if x.strip()]
    hkl = np.array([[int(x[i : i + 4]) for i in (0, 4, 8)] for x in lines])
    f_obs = np.sqrt(np.maximum([float(x[12:20]) for x in lines], 0.0))
    structure = read_structure(folder / "model/4wor.pdb")
    cell, every = structure.require_cell(), structure.to_p1()
    grid = HklGrid.from_resolution(cell, 2.15)
    lattice = lattice_for(grid, np.eye(3, dtype=np.int64)[None], 2 * np.pi / 2.15)
    f_atoms = structure_factors_on_lattice(
        lattice, every.positions, every.elements, every.occupancies, every.u_aniso, 1e-6
    )
    mask = solvent_mask(structure, 0.55)

    def r_factor(indices: np.ndarray, *, with_solvent: bool) -> float:
        protein = f_atoms[indices[:, 0] + lattice.extent[0], indices[:, 1] + lattice.extent[1],
                          indices[:, 2]]  # fmt: skip
        f_mask = mask_structure_factors(mask, cell, indices) if with_solvent else None
        return fit_scale_and_solvent(
            f_obs, indices, cell, protein, f_mask, space_group=structure.space_group
        ).r_factor

    right = r_factor(hkl, with_solvent=True)
    bare = r_factor(hkl, with_solvent=False)
    wrong = r_factor(hkl[:, [1, 0, 2]], with_solvent=True)
    note = (
        f"4WOR v {len(hkl)} measured |F|: R {right:.3f}, without solvent {bare:.3f}, wrongly "
        f"indexed {wrong:.3f}"
    )
    limits = [
        Limit("bulk solvent: R", right, at_most=LARGEST_R),
        Limit("wrongly indexed: R", wrong, at_least=LEAST_WRONG_R),
    ]
    return limits, [note], {"r": right, "r_without": bare, "r_wrong": wrong}


def main() -> None:
    """Each subject after the other."""
    small = size_asked() == "small"
    limits: list[Limit] = []
    notes: list[str] = []
    figures: dict[str, object] = {}
    for subject in (tls, networks, ensembles, halos, vibrations, solvent):
        own_limits, own_notes, own_figures = subject(small=small)
        limits += own_limits
        notes += own_notes
        figures[subject.__name__] = own_figures
    finish(limits, notes, **figures)


if __name__ == "__main__":
    main()
