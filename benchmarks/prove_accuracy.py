"""Every method and model against plain double sums, in shells: the table of docs/accuracy.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import numpy as np

from benchmarks.measure import measured
from benchmarks.results import ROOT, Limit, commit, finish, machine, size_asked
from benchmarks.targets import LOW, Target, Voxels, targets
from benchmarks.truths import Case, cases, crystal_case, first_order_truth, form_factors
from offbragg import AtomicStructure, HklGrid, simulate
from offbragg.scattering import diffuse_intensity, reference
from offbragg.scattering.engine import DEFAULT_RTOL
from offbragg.scattering.sampling import sampled_intensity

LARGEST_ERROR = 1e-3  # of the mean of the voxel's shell, for exact methods at the default rtol
# Sampled values scatter as their standard errors say. Those of different voxels are correlated (one
# repeat gives 0.8 to 1.7 for six modes), so the mean square is over repeats, too.
LEAST_Z, LARGEST_Z = 0.75, 1.35
LARGEST_FALL = 0.1  # of errors, for a tolerance a thousand times tighter
EXACT = ("splat", "pair-nufft", "gemm", "direct")
LADDER = (1e-3, DEFAULT_RTOL, 1e-6)
N_SAMPLES, N_REPEATS = 400, 8
N_REFERENCE = 4e6  # terms of the slowest sum, that the direct one is checked against


@dataclass(frozen=True)
class Row:
    """One line of the table: errors as fractions of the mean of the voxel's shell.

    ``seconds`` and ``memory_mib`` are for ``n_evaluated`` voxels, ``n_compared`` of which were
    compared. ``largest_of_mean``: of the map's mean instead. ``kind``: "exact", "approximation"
    or "sampled".
    """

    structure: str
    model: str
    method: str
    kind: str
    against: str
    rtol: float | None
    n_compared: int
    n_evaluated: int
    largest: float
    median: float
    at_d: float
    largest_beyond_low: float
    largest_of_mean: float
    seconds: float
    memory_mib: float
    standard_error: float | None = None
    rms_z: float | None = None


@dataclass(frozen=True)
class Evaluated:
    """Values at some of the chosen voxels, and what they cost."""

    values: np.ndarray
    which: np.ndarray
    n_evaluated: int
    seconds: float
    memory_mib: float


class Comparison:
    """One model on one structure: exact values and shell means at the chosen voxels."""

    def __init__(self, target: Target, case: Case) -> None:
        self.target, self.case = target, case
        self.structure = target.alone
        n_random, n_low = target.n_random, target.n_low
        if case.whole_crystal:
            self.structure = replace(target.alone, space_group=target.space_group)
            case = crystal_case(self.structure, target.u, target.length, target.cutoff)
            n_random, n_low = (min(n, target.n_crystal) for n in (n_random, n_low))
        self.voxels = Voxels(target.grid, n_random, n_low)
        self.exact = case.truth(self.voxels.q)
        self.means, self.mean = np.empty(0), 0.0

    def rows(self) -> Iterator[Row]:
        """Rows of every method; the first one's map gives the shell means."""
        on_ladder = self.case.name.startswith(self.target.ladder)
        for method in self.case.methods:
            if method == "sampled":
                yield self._sampled()
                continue
            is_refined = on_ladder and method in ("splat", "pair-nufft", "gemm")
            for rtol in LADDER if is_refined else (DEFAULT_RTOL,):
                got = self._evaluate(method, rtol)
                yield from self._compared(method, rtol, got)

    def _evaluate(self, method: str, rtol: float) -> Evaluated:
        is_map = method in self.target.maps or method == "one-phonon"
        chosen = self.voxels.chosen
        if is_map:
            grid, model = self.target.grid, self.case.model
            got = measured(
                lambda: simulate(self.structure, model, grid, method=method, rtol=rtol).intensity
            )
            if not len(self.means):
                self.means, self.mean = self.voxels.shell_means(got.result)
            values, n_evaluated = got.result.reshape(-1)[chosen], int(self.voxels.inside.sum())
            which = self._few() if method == "direct" else np.arange(len(chosen))
            return Evaluated(values[which], which, n_evaluated, got.seconds, got.memory_mib)
        which = self._few() if method == "direct" else np.arange(len(chosen))
        q, v = self.voxels.q[which], self.case.covariance
        f = form_factors(self.structure, q)
        at = measured(
            lambda: diffuse_intensity(q, self.structure.positions, f, v, method=method, rtol=rtol)
        )
        return Evaluated(at.result, which, len(which), at.seconds, at.memory_mib)

    def _few(self) -> np.ndarray:
        """As many of the chosen voxels as the slowest sum can do, the lowest among them."""
        n, n_atoms = len(self.voxels.chosen), self.structure.n_atoms
        some = int(np.clip(N_REFERENCE / n_atoms**2, 4, n))
        order = np.argsort(self.voxels.inv_d, kind="stable")
        return order[np.unique(np.linspace(0, n - 1, some).astype(np.int64))]

    def _compared(self, method: str, rtol: float, got: Evaluated) -> Iterator[Row]:
        q = self.voxels.q[got.which]
        if method == "one-phonon":
            own = first_order_truth(self.case, self.structure, q)
            yield self._row(method, "exact", "its own formula", rtol, got, own)
            yield self._row(method, "approximation", "direct sum", rtol, got, self.exact)
        elif method == "direct":
            v = self.case.covariance
            blocks = v if v.ndim == 4 else v[:, :, None, None] * np.eye(3)
            f = form_factors(self.structure, q)
            slow = reference.diffuse_intensity(q, self.structure.positions, f, blocks)
            yield self._row(method, "exact", "reference sum", None, got, slow)
        else:
            yield self._row(method, "exact", "direct sum", rtol, got, self.exact)

    def _sampled(self) -> Row:
        """Drawn at the chosen voxels, with their standard errors."""
        q = self.voxels.q
        order = np.random.default_rng(1).permutation(len(q))[:500]
        f = form_factors(self.structure, q[order])
        exact = self.exact[order]

        def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
            return sampled_intensity(
                q[order], self.structure.positions, f, self.case.covariance, N_SAMPLES,
                np.random.default_rng(seed),
            )  # fmt: skip

        got = measured(lambda: draw(0))
        values, errors = got.result
        row = self._row(
            "sampled", "sampled", "direct sum", None,
            Evaluated(values, order, len(order), got.seconds, got.memory_mib), exact,
        )  # fmt: skip
        drawn = [got.result, *(draw(seed) for seed in range(1, N_REPEATS))]
        squares = [np.mean(((v - exact) / e) ** 2) for v, e in drawn]
        share = float(np.median(errors / self.means[order]))
        return replace(row, standard_error=share, rms_z=float(np.sqrt(np.mean(squares))))

    def _row(
        self, method: str, kind: str, against: str, rtol: float | None, got: Evaluated,
        exact: np.ndarray,
    ) -> Row:  # fmt: skip
        error = np.abs(got.values - exact)
        share, inv_d = error / self.means[got.which], self.voxels.inv_d[got.which]
        worst = int(np.argmax(share))
        return Row(
            self.target.name, self.case.name, method, kind, against, rtol, len(error),
            got.n_evaluated, float(share[worst]), float(np.median(share)),
            float(1 / inv_d[worst]), float(np.max(share[inv_d >= LOW], initial=0.0)),
            float(error.max() / self.mean), got.seconds, got.memory_mib,
        )  # fmt: skip


def compile_loops() -> None:
    """Run every method once on a few atoms, so that compiling is not timed."""
    target = targets(small=True)[0]
    atoms = target.alone.take(np.arange(12))
    coarse = HklGrid.from_resolution(atoms.require_cell(), 4.0)
    for case in cases(atoms, 0.05, 5.0, 8.0):
        structure: AtomicStructure = atoms
        for method in case.methods:
            if method != "sampled":
                simulate(structure, case.model, coarse, method=method)


def limits_of(rows: list[Row]) -> list[Limit]:
    """Largest error of each method over the models of a structure, at the default tolerance."""
    found = []
    for structure in dict.fromkeys(row.structure for row in rows):
        own = [row for row in rows if row.structure == structure]
        for method in dict.fromkeys(row.method for row in own):
            name = f"{structure}, {method}"
            z = [row.rms_z for row in own if row.method == method and row.rms_z is not None]
            if z:
                found.append(
                    Limit(f"{name}: rms error / standard error", max(z), LEAST_Z, LARGEST_Z)
                )
            some = [
                row for row in own
                if row.method == method and row.kind == "exact" and row.rtol in (None, DEFAULT_RTOL)
            ]  # fmt: skip
            if some:
                worst = max(some, key=lambda row: row.largest)
                found.append(
                    Limit(
                        f"{name}: largest error / shell mean ({worst.model}, {worst.at_d:.1f} Å)",
                        worst.largest,
                        at_most=LARGEST_ERROR,
                    )
                )
            falls = _falls([row for row in own if row.method == method and row.kind == "exact"])
            if falls:
                what = f"error at rtol {min(LADDER):g} / at {max(LADDER):g}"
                found.append(Limit(f"{name}: {what}", max(falls), at_most=LARGEST_FALL))
    return found


def _falls(rows: list[Row]) -> list[float]:
    """Error at the tightest tolerance over that at the loosest, of each model done at all."""
    found = []
    for model in dict.fromkeys((row.model, row.against) for row in rows):
        by_rtol = {r.rtol: r.largest for r in rows if (r.model, r.against) == model}
        if all(rtol in by_rtol for rtol in LADDER):
            found.append(by_rtol[min(LADDER)] / by_rtol[max(LADDER)])
    return found


def main() -> None:
    """All structures; the rows of a full run are kept for docs/accuracy.md."""
    small = size_asked() == "small"
    compile_loops()
    rows: list[Row] = []
    chosen = targets(small=small)
    for target in chosen:
        for case in cases(target.alone, target.u, target.length, target.cutoff):
            if not case.name.startswith(target.models):
                continue
            for row in Comparison(target, case).rows():
                rows.append(row)
                sys.stdout.write(
                    f"  {row.structure}, {row.model}, {row.method} {row.rtol or ''} {row.kind}: "
                    f"{row.largest:.1e} at {row.at_d:.1f} Å, {row.seconds:.1f} s\n"
                )
                sys.stdout.flush()
    if not small:
        record = {
            "command": "make prove PARTS=accuracy", "commit": commit(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(),
            "default_rtol": DEFAULT_RTOL, "n_samples": N_SAMPLES,
            "structures": {x.name: x.text for x in chosen}, "rows": [asdict(row) for row in rows],
        }  # fmt: skip
        path = ROOT / "docs" / "results" / "accuracy.json"
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    finish(limits_of(rows), [f"{len(rows)} rows; a full run writes docs/results/accuracy.json"])


if __name__ == "__main__":
    main()
