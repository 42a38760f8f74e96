"""A measured map, staphylococcal nuclease: how residues move, what is chance, and what leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.results import ROOT, SHARED_DATA, Limit, finish, size_asked
from offbragg import AtomicStructure, LiquidLike, import_map, merge, read_structure
from offbragg.crystal.symmetry import laue_rotations
from offbragg.inference import InferredCovariance, fit, infer_covariance
from offbragg.inference.held_out import blocks_of
from offbragg.inference.linear_problem import InferOptions, LinearProblem
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.wrong_indexing import wrongly_indexed
from offbragg.plotting import draw_residue_correlations

FOLDER = SHARED_DATA / "snase"
D_MAX = 10.0
#: The penalty of the tables; the inference chooses its own.
PENALTY = 1.0


def turned(problem: LinearProblem, wrong: DiffuseMap) -> LinearProblem:
    """The same problem for the map as if indexed wrongly."""
    place, inside = wrong.grid.index_of(problem.data.voxels.hkl)
    values = wrong.intensity[tuple(np.where(inside[:, None], place, 0).T)].astype(np.float64)
    return problem.with_intensity(values, inside & np.isfinite(values))


def in_blocks(problem: LinearProblem, edge: float) -> LinearProblem:
    """The same problem held out in blocks of another edge; 0: voxel by voxel."""
    hkl = problem.data.voxels.hkl
    block = blocks_of(hkl, laue_rotations("4/m"), int(edge))[0] if edge else np.arange(len(hkl))
    return replace(problem, block=block, ridge=replace(problem.ridge, block=block))


def row(problem: LinearProblem, name: str) -> dict[str, object]:
    """First-order score of one problem, and of its smooth functions alone."""
    changed = problem.left_out(problem.ridge, PENALTY)
    score = problem.score(problem.left_out_unpenalised(), changed)
    smooth = problem.correlation(problem.left_out_unpenalised(with_model=False))[0]
    return {
        "case": name, "smooth": round(smooth, 4), "base": round(score.base, 4),
        "changed": round(score.cc, 4), "gain": round(score.gain, 4),
        "error": round(score.gain_error, 4),
    }  # fmt: skip


def off_diagonal(found: InferredCovariance) -> np.ndarray:
    """What the map changed: correlations of residues less those of the base model."""
    change = found.residues.correlation - found.base_residues.correlation
    return change[np.triu_indices(len(change), 1)]


def nuclease(*, small: bool) -> tuple[DiffuseMap, AtomicStructure]:
    """The measured map and its structure; small: a third of the molecule, still like the map."""
    observed = merge(import_map(FOLDER / "maps/snc_map.npz", space_group="P 41"), "4/m").map
    structure = read_structure(FOLDER / "model/4wor.pdb").select("not water and not hydrogen")
    return observed, structure.select("resid 6-50") if small else structure


def main() -> None:
    """Infer, and take the figures apart."""
    if not FOLDER.is_dir():
        finish([], ["skipped: no measured map of staphylococcal nuclease at hand"])
        return
    small = size_asked() == "small"
    d_min = 3.2 if small else 1.65
    observed, structure = nuclease(small=small)
    limits = {"d_min": d_min, "d_max": D_MAX, "block_edge": 4 if small else 6}
    start = LiquidLike(0.47, 11.5)
    options = {"n_resamples": 2 if small else 20, "n_folds": 2 if small else 5}
    if small:
        options |= {"smoothing": 15.0, "harmonics": 2}
    found = infer_covariance(observed, structure, start, **limits, **options)
    exact, null = found.exact, found.null
    assert null is not None
    notes = [
        f"base {found.base.model!r}",
        f"exact maps, folds of blocks: {exact.base:.4f} -> {exact.cc:.4f}, "
        f"gain {exact.gain:.4f} ± {exact.gain_error:.4f}",
        f"first order, block by block: {found.linear.base:.4f} -> {found.linear.cc:.4f}, "
        f"gain {found.linear.gain:.4f} ± {found.linear.gain_error:.4f}; wrong indexing "
        f"{null.base:.4f} -> {null.cc:.4f}, gain {null.gain:.4f} ± {null.gain_error:.4f}",
        f"{found.n_determined:.0f} of {found.n_numbers} numbers determined, "
        f"{100 * found.clipped:.1f} % cut off; fitted CC {found.cc_working:.3f}; {found.message}",
    ]
    figures: dict[str, object] = {
        "exact": vars(exact), "linear": vars(found.linear), "null": vars(null),
        "cc_by_penalty": {f"{x:g}": y for x, y in found.cc_by_penalty.items()},
        "n_numbers": found.n_numbers, "n_determined": found.n_determined,
        "clipped": found.clipped, "cc_working": found.cc_working, "cc_smooth": found.cc_smooth,
    }  # fmt: skip
    checks = [Limit("snase: CC of the exact base model, unseen blocks", exact.base, 0.1)]
    if not small:
        checks = [
            Limit("snase: CC on unseen blocks, exact maps", exact.cc, 0.70),
            Limit("snase: gain over liquid-like motions", exact.gain, 0.02),
            Limit("snase: that gain in its standard errors", exact.gain / exact.gain_error, 4.0),
        ]
        errors = found.correlation_errors
        assert errors is not None
        off = errors[np.triu_indices(len(errors), 1)]
        change = off_diagonal(found)
        share = float(np.mean(np.abs(change) > 3 * off))
        notes.append(
            f"correlations of residues: bootstrap error {off.mean():.3f} on average; "
            f"{100 * share:.0f} % of pairs changed by more than 3 of them"
        )
        figures["changed_pairs"] = share
        figures["correlation_error"] = float(off.mean())
        for name, residues in (("inferred", found.residues), ("base", found.base_residues)):
            picture = draw_residue_correlations(residues)
            picture.savefig(ROOT / f"docs/images/snase_{name}.png", dpi=80)
        others = {}
        for name, lengths in (
            ("smoothing 12 Å", {"smoothing": 12.0}), ("reach 25 Å", {"reach": 25.0}),
        ):  # fmt: skip
            other = infer_covariance(
                observed, structure, start, **limits, n_folds=2, null=False, **lengths
            )
            alike = float(np.corrcoef(off_diagonal(other), change)[0, 1])
            others[name] = {"alike": alike, "exact": vars(other.exact)}
            notes.append(
                f"{name}: gain {other.exact.gain:.4f} ± {other.exact.gain_error:.4f}; changes of "
                f"correlations agree to {alike:.2f}"
            )
        figures["others"] = others
        figures |= tables(observed, structure, start, limits, notes)
    finish(checks, notes, **figures)


def tables(observed, structure, start, limits, notes) -> dict[str, object]:
    """By degree of harmonics and edge of blocks, for the right and the wrong indexing."""
    base = fit(
        observed, structure, start, held_out=0.0, background="shells", d_min=limits["d_min"],
        d_max=limits["d_max"],
    ).model  # fmt: skip
    wrong = wrongly_indexed(observed)
    rows = []
    for degree in (0, 2, 4, 8):
        settings = InferOptions(harmonics=degree, max_memory=1e9, **limits)
        problem = LinearProblem.of(observed, structure, base, None, settings)
        for indexing, part in (("right", problem), ("wrong", turned(problem, wrong))):
            rows.append(row(part, f"{indexing}, harmonics {degree}, blocks of 6"))
            edges = {4: (0, 4, 9, 12), 8: (12,)}.get(degree, ())
            for edge in edges:
                what = f"blocks of {edge}" if edge else "single voxels"
                name = f"{indexing}, harmonics {degree}, {what}"
                rows.append(row(in_blocks(part, edge), name))
    notes += [
        f"{x['case']}: smooth {x['smooth']}, base {x['base']}, changed {x['changed']}, "
        f"gain {x['gain']} ± {x['error']}"
        for x in rows
    ]
    return {"tables": rows}


if __name__ == "__main__":
    main()
