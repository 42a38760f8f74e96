"""The kind of motion told from images: the model that made the data ranks first of five."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from benchmarks.observed import observe, truth_map
from benchmarks.results import Limit, finish, size_asked
from offbragg import AtomicStructure, ElasticNetwork, LiquidLike, RigidBody, rank_models
from offbragg.disorder.base import DisorderModel
from offbragg.inference import RankedModel, standard_models
from offbragg.made_crystal import make_peptide

U = 0.2  # of the structure's ADPs [Å²], from which every start follows
LEAST_RIGHT = 9  # of ten


@dataclass(frozen=True)
class Size:
    """The crystal, the data and the work: a fit to all voxels and one a fold, each model."""

    sequence: str
    d_min: float
    sampling_of_truth: tuple[int, int, int]
    n_folds: int
    max_evaluations: int
    truths: tuple[str, ...]
    models: tuple[str, ...]


# One helix of 18 Å, whose halves are the domains; TLS gets nine steps, the others more.
FULL = Size(
    "GASVMLKADCAV", 2.6, (9, 9, 9), 2, 200,
    ("rigid-body", "tls", "liquid-like", "elastic-network", "two-domains"),
    ("rigid-body", "tls", "liquid-like", "elastic-network", "two-domains"),
)  # fmt: skip
# Networks and TLS take longest, and have nothing to look for here.
SMALL = Size(
    "GASVML", 3.2, (6, 6, 6), 2, 40, ("two-domains",),
    ("rigid-body", "liquid-like", "two-domains"),
)  # fmt: skip


def halves(structure: AtomicStructure) -> list[np.ndarray]:
    """The atoms of the first and of the second half of the residues."""
    numbers = structure.residue_numbers
    is_first = 2 * numbers <= numbers.min() + numbers.max()
    return [np.flatnonzero(is_first), np.flatnonzero(~is_first)]


def truths(structure: AtomicStructure) -> dict[str, tuple[DisorderModel, DisorderModel]]:
    """Two of each kind, with mean U between 0.1 and 0.3 Å²."""
    t = np.array([[0.20, 0.03, 0.0], [0.03, 0.12, -0.02], [0.0, -0.02, 0.16]])
    # Turns by 2.6°, 1.6° and 2.2°; ends are 9 Å from the middle.
    l = np.diag([2.0e-3, 0.8e-3, 1.5e-3])  # noqa: E741
    s = np.array([[0.0, 2.0e-3, -1.0e-3], [1.5e-3, 0.0, 2.0e-3], [1.0e-3, -2.0e-3, 0.0]])
    springs = {"distance_edges": (4.5, 9.0), "scale": "absolute", "nodes": "all"}
    parts = halves(structure)
    return {
        "rigid-body": (RigidBody(t), RigidBody(np.diag([0.10, 0.25, 0.10]))),
        "tls": (
            RigidBody(0.5 * t, l, s), RigidBody(np.diag([0.15, 0.08, 0.10]), 0.5 * l, -0.5 * s)
        ),
        "liquid-like": (LiquidLike(0.4, 6.0), LiquidLike(0.5, 10.0)),
        "elastic-network": (
            ElasticNetwork(spring_constants=(2.6, 0.26), **springs),
            ElasticNetwork(spring_constants=(1.8, 0.54), **springs),
        ),
        "two-domains": (
            RigidBody(t, l, bodies=parts),
            RigidBody(np.diag([0.10, 0.20, 0.15]), 3.0 * l, bodies=parts),
        ),
    }  # fmt: skip


def models(structure: AtomicStructure, names: tuple[str, ...]) -> dict[str, DisorderModel]:
    """The named of the standard models, and two domains that shift and turn, with their starts."""
    known = standard_models(structure)
    known["two-domains"] = RigidBody(0.25 * U, 1e-3 * np.eye(3), bodies=halves(structure))
    return {name: known[name] for name in names}


def told(name: str, seed: int, ranked: list[RankedModel]) -> str:
    """One case in a line, models in the order in which they rank."""
    best = max(ranked, key=lambda x: x.cc)
    order = ", ".join(f"{x.name} {x.cc:.4f}" for x in ranked)
    lead = min((x for x in ranked if x is not best), key=lambda x: x.behind)
    verdict = "right" if ranked[0].name == name else "WRONG"
    return (
        f"{name} {seed}: {verdict}; {order}; by CC alone {best.name}, "
        f"ahead of {lead.name} by {lead.behind:.4f} ± {lead.behind_error:.4f}"
    )


def main() -> None:
    """Two data sets of each kind of motion, all models ranked on each."""
    size = SMALL if size_asked() == "small" else FULL
    structure = make_peptide(size.sequence, u=U)
    notes, figures, n_right = [], {}, 0
    made = truths(structure)
    for seed in range(2 if size is FULL else 1):
        for name in size.truths:
            truth = made[name][seed]
            total = truth_map(structure, truth, size.d_min, size.sampling_of_truth)
            merged = observe(structure, total, size.d_min, seed, n_pixels=160, sampling=(2, 2, 2))
            ranked = rank_models(
                merged, structure, models(structure, size.models), n_folds=size.n_folds,
                d_max=8.0, max_evaluations=size.max_evaluations, rng=np.random.default_rng(seed),
            )  # fmt: skip
            n_right += ranked[0].name == name
            notes.append(told(name, seed, ranked))
            sys.stdout.write(f"  {notes[-1]}\n")
            sys.stdout.flush()
            figures[f"{name} {seed}"] = {
                x.name: {"cc": x.cc, "behind": x.behind, "behind_error": x.behind_error,
                         "n_numbers": x.n_numbers, "converged": x.converged}
                for x in ranked
            }  # fmt: skip
    least = LEAST_RIGHT if size is FULL else len(notes)
    finish(
        [Limit(f"right model first, of {len(notes)}", n_right, at_least=least)],
        [],  # said as they came
        cases=figures,
    )


if __name__ == "__main__":
    main()
