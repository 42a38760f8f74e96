"""A measured map, staphylococcal nuclease: models and their sums on blocks that no fit has seen."""

from __future__ import annotations

import numpy as np

from benchmarks.prove_snase import D_MAX, FOLDER, nuclease
from benchmarks.results import Limit, finish, size_asked
from offbragg import AtomicStructure, LiquidLike, RigidBody, rank_models
from offbragg.disorder import DisorderModel
from offbragg.inference import standard_models
from offbragg.maps.wrong_indexing import wrongly_indexed

SMALL = ("uncorrelated", "liquid-like")
# What a wrong map is explained to: the smooth functions alone, and models of few numbers.
AS_IF_INDEXED_WRONGLY = (
    *SMALL, "rigid-body", "liquid-like + longer liquid-like",
)  # fmt: skip
# Maps and derivatives a fit, at most: five steps for the model of most numbers.
MOST = 120


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
    return {**known, "liquid-like": liquid, **sums}


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
    options = {
        "n_folds": 2 if small else 5, "refit": False, "d_min": 4.5 if small else 1.65,
        "d_max": D_MAX, "background": "shells", "harmonics": 2 if small else 4,
        "block_edge": 3 if small else 6, "rtol": 2e-3, "max_evaluations": 12 if small else MOST,
    }  # fmt: skip
    right, wrong = (
        {
            x.name: x
            for x in rank_models(
                of, structure, {name: chosen[name] for name in names},
                rng=np.random.default_rng(0), **options,
            )
        }
        for of, names in (
            (observed, tuple(chosen)),
            (wrongly_indexed(observed), [x for x in AS_IF_INDEXED_WRONGLY if x in chosen]),
        )
    )  # fmt: skip
    figures = {
        x.name: {
            "n_numbers": x.n_numbers, "cc": x.cc, "cc_error": x.cc_error, "gain": x.gain,
            "gain_error": x.gain_error, "cc_working": x.cc_working,
            "converged": x.converged, "model": repr(x.model)[:300],
        }
        for x in right.values()
    }  # fmt: skip
    for name, x in wrong.items():
        figures[name] |= {"cc_null": x.cc, "cc_null_error": x.cc_error}
    liquid, floor = right["liquid-like"].cc, wrong["liquid-like"].cc
    limits = [] if small else [
        Limit("liquid-like: CC over blocks that no fit has seen", liquid, at_least=0.70),
        Limit("liquid-like: that less the same as if indexed wrongly", liquid - floor, 0.3),
    ]  # fmt: skip
    notes = [
        f"{x.name}: {x.cc:.4f} ± {x.cc_error:.4f}, {x.n_numbers} numbers, over {x.reference} "
        f"{x.gain:+.4f} ± {x.gain_error:.4f}"
        + (f", indexed wrongly {wrong[x.name].cc:.4f}" if x.name in wrong else "")
        for x in right.values()
    ]
    finish(limits, notes, models=figures)


if __name__ == "__main__":
    main()
