"""Motions of low rank recovered from images, blind to what they are: covariances and one motion."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.lysozyme import lysozyme
from benchmarks.observed import observe, truth_map
from benchmarks.results import SHARED_DATA, Limit, finish, size_asked
from offbragg import (
    AtomicStructure,
    BasisCovariance,
    Covariance,
    DiffuseMap,
    FreeAdps,
    read_ensemble,
)
from offbragg.disorder import DisorderModel, principal_components
from offbragg.inference import FitResult, fit, low_rank_start, pair_errors
from offbragg.made_crystal import make_peptide

FOLDER = SHARED_DATA / "ensembles"
# How well the ADPs of a refinement are known [Å²].
ADP_ERROR = 0.02
# Atoms of an NMR ensemble's loose ends move by up to 5 Å: no crystal would show them. Mean U of the
# made crystals, and the largest of an atom [Å²].
MEAN_U, LARGEST_U = 0.25, 0.6
N_REPEATS = 30


@dataclass(frozen=True)
class Made:
    """A structure as a refinement gives it, how it moves, and what is measured of it."""

    structure: AtomicStructure
    factor: np.ndarray
    independent: float
    d_min: float
    sampling_of_truth: tuple[int, int, int]
    n_pixels: int

    @property
    def truth(self) -> DisorderModel:
        """Collective motion and, where there is, motion of each atom by itself."""
        motion = Covariance.from_factor(self.factor)
        if not self.independent:
            return motion
        return motion + FreeAdps(np.full(self.structure.n_atoms, self.independent))

    def total(self) -> DiffuseMap:
        """Bragg peaks and diffuse scattering, to be exposed."""
        return truth_map(self.structure, self.truth, self.d_min, self.sampling_of_truth)

    def observed(self, total: DiffuseMap, seed: int) -> DiffuseMap:
        """Images of it, reduced and merged."""
        return observe(
            self.structure, total, self.d_min, seed, n_pixels=self.n_pixels, sampling=(2, 2, 2)
        )


def with_motion(
    structure: AtomicStructure, factor: np.ndarray, independent: float, **how: object
) -> Made:
    """ADPs as the motion makes them, its mean U brought to size and loose ends held."""
    n = structure.n_atoms
    factor = factor * np.sqrt(3 * n * MEAN_U / np.sum(factor**2))
    u = np.einsum("iak,iak->i", factor, factor) / 3.0
    factor = factor * np.minimum(1.0, np.sqrt(LARGEST_U / u))[:, None, None]
    adps = np.einsum("iak,ibk->iab", factor, factor) + independent * np.eye(3)
    return Made(replace(structure, u_aniso=adps), factor, independent, **how)  # type: ignore[arg-type]


def ubiquitin(atoms: str, rank: int) -> Made:
    """The largest motions of the 2K39 ensemble in a P 1 21 1 crystal with 6 Å between copies."""
    names = {"CA": "2k39_ca_116models.pdb", "backbone": "2k39_allatom_15models.pdb.gz"}
    select = "name N CA C O" if atoms == "backbone" else None
    box = (50.0, 50.0, 50.0, 90.0, 100.0, 90.0)
    path = FOLDER / names[atoms]
    structure, frames = read_ensemble(path, cell=box, space_group="P 1 21 1", select=select)
    mean = frames[0]
    for _ in range(3):
        mean = mean - mean.mean(axis=0)
        turned = []
        for frame in frames - frames.mean(axis=1, keepdims=True):
            turned.append(Rotation.align_vectors(mean, frame)[0].apply(frame))
        mean = np.mean(turned, axis=0)
    modes, variances = principal_components(turned, rank)
    extent = np.ptp(mean, axis=0)
    cell = (*np.round(extent + 6.0, 1), 90.0, 100.0, 90.0)
    structure, _ = read_ensemble(path, cell=cell, space_group="P 1 21 1", select=select)
    placed = replace(structure, positions=mean + 0.5 * extent)
    return with_motion(
        placed, modes * np.sqrt(variances), 0.0,
        d_min=2.5, sampling_of_truth=(9, 9, 9), n_pixels=256,
    )  # fmt: skip


def hinged(structure: AtomicStructure, second: np.ndarray, **how: object) -> Made:
    """One motion: two parts turn against each other about an axis where they meet."""
    r = structure.positions
    first_centre, second_centre = r[~second].mean(axis=0), r[second].mean(axis=0)
    nearest = np.argsort(np.linalg.norm(r[second] - first_centre, axis=1))[:40]
    meeting = r[second][nearest].mean(axis=0)
    axis = np.cross(second_centre - first_centre, [0.3, -0.5, 0.8])
    motion = np.cross(axis, r - meeting)
    motion[~second] *= -0.5
    motion -= motion.mean(axis=0)
    return with_motion(structure, motion[:, :, None], 0.08, **how)


def lysozyme_that_bends() -> Made:
    """Tetragonal lysozyme, residues 40 to 87 against the rest; copies move independently."""
    structure, _ = lysozyme()
    numbers = structure.residue_numbers
    return hinged(
        structure, (numbers >= 40) & (numbers <= 87),
        d_min=3.0, sampling_of_truth=(6, 6, 12), n_pixels=384,
    )  # fmt: skip


def peptide_that_bends() -> Made:
    """The reduced form: one helix of which one half moves against the other."""
    structure = make_peptide("GASVMLKA")
    return hinged(
        structure, structure.residue_numbers > 4,
        d_min=2.6, sampling_of_truth=(9, 9, 9), n_pixels=160,
    )  # fmt: skip


def blind(made: Made, observed: DiffuseMap, rank: int, most: int, errors: str) -> FitResult:
    """Fit a factor of a given rank, from where the map itself says to start."""
    structure = made.structure
    start: DisorderModel = low_rank_start(observed, structure, rank, d_max=20.0)
    if made.independent:
        start = start + FreeAdps.of(structure, 0.3)
    return fit(
        observed, structure, start, d_max=10.0, adp_error=ADP_ERROR, solver="l-bfgs",
        max_evaluations=most, errors=errors, rng=np.random.default_rng(0),
    )  # fmt: skip


def found_factor(found: FitResult) -> np.ndarray:
    """The factor (n, 3, rank) of a fitted model, alone or in a sum."""
    model = getattr(found.model, "models", (found.model,))[0]
    return np.asarray(model.factor)


def off_diagonal(factor: np.ndarray) -> np.ndarray:
    """Every V_ij, i < j."""
    n = len(factor)
    first, second = np.triu_indices(n, 1)
    flat = factor.reshape(3 * n, -1)
    v = (flat @ flat.T).reshape(n, 3, n, 3)
    return v[first, :, second, :].reshape(-1)


def covariance_case(name: str, made: Made, rank: int, errors: str) -> tuple[list[Limit], list[str]]:
    """A covariance of low rank from one set of images."""
    observed = made.observed(made.total(), 0)
    found = blind(made, observed, rank, 1500, errors)
    recovered, truth = (off_diagonal(x) for x in (found_factor(found), made.factor))
    cc = float(np.corrcoef(recovered, truth)[0, 1])
    limits = [Limit(f"{name}: CC of off-diagonal V_ij with the truth", cc, at_least=0.95)]
    sets = [s for s in found.statistics.values() if s is not None]
    chi2 = " and ".join(f"{s['chi2_reduced']:.3f}" for s in sets)
    notes = [
        f"{name}: {found.n_numbers} numbers, {sets[0]['n_unique']} voxels, reduced chi² {chi2} "
        f"(working, held out); slope on the truth "
        f"{recovered @ truth / (truth @ truth):.3f}; {found.message}"
    ]
    if errors == "gauss-newton":
        rng = np.random.default_rng(1)
        n = made.structure.n_atoms
        first, second = (x[rng.choice(n * (n - 1) // 2, 400)] for x in np.triu_indices(n, 1))
        values, spread = pair_errors(found, first, second)
        wanted = np.einsum("pak,pbk->pab", made.factor[first], made.factor[second])
        scores = ((values - wanted) / spread)[np.isfinite(spread)]
        limits.append(
            Limit(f"{name}: rms error of V_ij / standard error",
                  float(np.sqrt(np.mean(scores**2))), 0.6, 1.5)
        )  # fmt: skip
        notes.append(
            f"{name}: {found.n_determined:.0f} of {found.n_numbers} numbers determined; "
            f"{np.mean(np.abs(scores) < 3):.1%} of V_ij within three standard errors"
        )
    return limits, notes


def calibration(made: Made) -> tuple[list[Limit], list[str]]:
    """C of known motions, free, over repeats with other photons."""
    rank = made.factor.shape[2]
    sizes = np.sqrt(np.mean(np.sum(made.factor**2, axis=1), axis=0))
    basis, truth = made.factor / sizes, np.diag(sizes**2)
    total, scores = made.total(), []
    for seed in range(N_REPEATS):
        found = fit(
            made.observed(total, seed), made.structure, BasisCovariance(basis, 0.5 * truth),
            d_max=10.0, rng=np.random.default_rng(seed),
        )  # fmt: skip
        p = found.parameters["coefficients"]
        scores.append(((p.value - truth) / p.standard_error)[np.triu_indices(rank)])
    z = np.array(scores)
    name = f"C of {rank} principal components, {N_REPEATS} repeats"
    return [
        Limit(f"{name}: largest error in standard errors", float(np.abs(z).max()), at_most=4.5),
        Limit(f"{name}: rms error / standard error", float(np.sqrt(np.mean(z**2))), 0.6, 1.5),
    ], [f"{name}: mean error / standard error of each {z.mean(axis=0).round(2).tolist()}"]


def puzzle(name: str, made: Made, most: int) -> tuple[list[Limit], list[str]]:
    """One unknown motion, from the images and the average structure."""
    found = blind(made, made.observed(made.total(), 0), 1, most, "none")
    motion, truth = found_factor(found).ravel(), made.factor.ravel()
    sizes = float(np.linalg.norm(motion)), float(np.linalg.norm(truth))
    overlap = float(abs(motion @ truth)) / sizes[0] / sizes[1]
    return [
        Limit(f"{name}: overlap of the motion with the truth", overlap, at_least=0.9),
        Limit(f"{name}: its amplitude / the truth's", sizes[0] / sizes[1], 0.9, 1.1),
    ], [f"{name}: {found.n_numbers} numbers; {found.message}"]


def main() -> None:
    """Every case, each said as it comes."""
    limits: list[Limit] = []
    notes: list[str] = []

    def add(found: tuple[list[Limit], list[str]]) -> None:
        limits.extend(found[0])
        notes.extend(found[1])
        sys.stdout.write("".join(f"  {x}\n" for x in found[1]))
        sys.stdout.flush()

    if size_asked() == "small":
        made = peptide_that_bends()
        add(puzzle("peptide that bends", made, 120))
    else:
        if (FOLDER / "2k39_ca_116models.pdb").is_file():
            calpha = ubiquitin("CA", 3)
            add(covariance_case("2K39, 76 Cα, rank 3", calpha, 3, "gauss-newton"))
            add(calibration(calpha))
            made = ubiquitin("backbone", 2)
            add(covariance_case("2K39, 304 backbone atoms, rank 2", made, 2, "none"))
        else:
            notes.append("2K39 skipped: its ensembles are not at hand")
        add(puzzle("lysozyme that bends", lysozyme_that_bends(), 120))
    finish(limits, [], cases=notes)  # said as they came


if __name__ == "__main__":
    main()
