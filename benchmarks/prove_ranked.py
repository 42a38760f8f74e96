"""A measured map, staphylococcal nuclease: models and their sums on blocks that no fit has seen.

Hours in all: each model is kept in docs/results/ranked.json as soon as it is done, and a run goes
on from there. FRESH=1 begins anew.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np

from benchmarks.prove_snase import D_MAX, FOLDER, nuclease
from benchmarks.results import ROOT, Limit, commit, finish, size_asked
from offbragg import AtomicStructure, LiquidLike, RigidBody, rank_models
from offbragg.disorder import DisorderModel
from offbragg.inference import standard_models
from offbragg.inference.jackknife import jackknife_difference
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.wrong_indexing import wrongly_indexed

KEPT = ROOT / "docs" / "results" / "ranked.json"
SMALL = ("uncorrelated", "liquid-like")
# What a wrong map is explained to: the smooth functions alone, and models of few numbers.
AS_IF_INDEXED_WRONGLY = (
    *SMALL, "rigid-body", "liquid-like + longer liquid-like", "liquid-like + elastic-network",
)  # fmt: skip
# Maps and derivatives a fit, at most: five steps for the model of most numbers.
MOST = 120
# In a map's own name, that of the same as if indexed wrongly.
WRONG = "indexed wrongly: "

Record = dict[str, Any]


def models(structure: AtomicStructure) -> dict[str, DisorderModel]:
    """The standard ones, and liquid-like motions with others beside them."""
    known = standard_models(structure)
    liquid = LiquidLike(0.45, 10.0)
    body = known["tls"]
    assert isinstance(body, RigidBody)
    beside = {
        "translation": RigidBody(0.02),
        "turning": RigidBody(0.01, 0.1 * np.asarray(body.libration), body.screw),
        "elastic-network": known["elastic-network"],
        "longer liquid-like": LiquidLike(0.2, 30.0),
    }
    sums = {f"liquid-like + {name}": liquid + model for name, model in beside.items()}
    every = {**known, "liquid-like": liquid, **sums}
    order = (*SMALL, "rigid-body", "liquid-like + longer liquid-like")  # quick ones first
    return {name: every[name] for name in (*order, *(x for x in every if x not in order))}


def cross_validated(
    observed: DiffuseMap, structure: AtomicStructure, model: DisorderModel, options: Record
) -> Record:
    """One model by itself; folds are the same for all."""
    rng = np.random.default_rng(0)
    (found,) = rank_models(observed, structure, {"": model}, rng=rng, **options)
    return {
        "n_numbers": found.n_numbers, "cc": found.cc, "cc_error": found.cc_error,
        "cc_working": found.cc_working, "converged": found.converged,
        "model": repr(found.model)[:300], "commit": commit(),
        "cc_without": np.round(found.cc_without, 6).tolist(),
    }  # fmt: skip


def all_of(
    observed: DiffuseMap, structure: AtomicStructure, chosen: dict[str, DisorderModel],
    options: Record, *, small: bool,
) -> dict[str, Record]:  # fmt: skip
    """Every model on the map, some on it as if indexed wrongly; from what is kept, if anything."""
    settings = json.loads(json.dumps(options))
    found: dict[str, Record] = {}
    if KEPT.is_file() and not small and "FRESH" not in os.environ:
        kept = json.loads(KEPT.read_text())
        found = kept["models"] if kept["options"] == settings else {}
    wrong = [WRONG + name for name in AS_IF_INDEXED_WRONGLY if name in chosen]
    for name in (*chosen, *wrong):
        if name in found:
            continue
        of = wrongly_indexed(observed) if name.startswith(WRONG) else observed
        model = chosen[name.removeprefix(WRONG)]
        found[name] = cross_validated(of, structure, model, options)
        if not small:
            KEPT.write_text(json.dumps({"options": settings, "models": found}, indent=1) + "\n")
            sys.stdout.write(f"  {name}: {found[name]['cc']:.4f} ± {found[name]['cc_error']:.4f}\n")
            sys.stdout.flush()
    return found


def gain(one: Record, base: Record) -> tuple[float, float]:
    """How far the correlation is above the base's, and the error of that."""
    pairs = ((x["cc"], np.array(x["cc_without"])) for x in (one, base))
    return jackknife_difference(*pairs)


def main() -> None:
    """Rank, right and as if indexed wrongly."""
    if not FOLDER.is_dir():
        finish([], ["skipped: no measured map of staphylococcal nuclease at hand"])
        return
    small = size_asked() == "small"
    observed, structure = nuclease(small=small)
    chosen = models(structure)
    if small:
        chosen = {name: chosen[name] for name in SMALL}
    options: Record = {
        "n_folds": 2 if small else 5, "refit": False, "d_min": 4.5 if small else 1.65,
        "d_max": D_MAX, "background": "shells", "harmonics": 2 if small else 4,
        "block_edge": 3 if small else 6, "rtol": 2e-3, "max_evaluations": 12 if small else MOST,
    }  # fmt: skip
    found = all_of(observed, structure, chosen, options, small=small)
    notes = []
    for name in sorted(chosen, key=lambda name: -found[name]["cc"]):
        one, floor = found[name], found.get(WRONG + name)
        above, error = gain(one, found["liquid-like"])
        notes.append(
            f"{name}: {one['cc']:.4f} ± {one['cc_error']:.4f}, {one['n_numbers']} numbers, over "
            f"liquid-like {above:+.4f} ± {error:.4f}"
            + (f", indexed wrongly {floor['cc']:.4f}" if floor else "")
        )
    liquid, floor = (found[x]["cc"] for x in ("liquid-like", WRONG + "liquid-like"))
    limits = [] if small else [
        Limit("liquid-like: CC over blocks that no fit has seen", liquid, at_least=0.70),
        Limit("liquid-like: that less the same as if indexed wrongly", liquid - floor, 0.3),
    ]  # fmt: skip
    finish(limits, notes)


if __name__ == "__main__":
    main()
