"""A measured map, staphylococcal nuclease: models and their sums on blocks that no fit has seen."""

from __future__ import annotations

import numpy as np

from benchmarks.prove_snase import D_MAX, FOLDER, nuclease
from benchmarks.results import Limit, finish, size_asked
from offbragg import AtomicStructure, LiquidLike, RigidBody, rank_models
from offbragg.disorder import DisorderModel
from offbragg.inference import standard_models

SMALL = ("uncorrelated", "rigid-body", "liquid-like")


def models(structure: AtomicStructure) -> dict[str, DisorderModel]:
    """The standard ones, and liquid-like motions with others beside them."""
    known = standard_models(structure)
    liquid = LiquidLike(0.45, 10.0)
    body = known["tls"]
    beside = {
        "translation": RigidBody(0.02),
        "turning": RigidBody(0.01, 0.1 * body.libration, body.screw),  # type: ignore[attr-defined]
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
    ranked = rank_models(
        observed, structure, chosen, n_folds=2 if small else 5, null=not small, refit=False,
        d_min=3.2 if small else 1.65, d_max=D_MAX, background="shells", harmonics=2 if small else 4,
        block_edge=4 if small else 6, rtol=2e-3, rng=np.random.default_rng(0),
    )  # fmt: skip
    figures = {
        x.name: {
            "n_numbers": x.n_numbers, "cc": x.cc, "cc_error": x.cc_error, "gain": x.gain,
            "gain_error": x.gain_error, "cc_null": x.cc_null, "cc_working": x.cc_working,
            "converged": x.converged, "model": repr(x.model)[:300],
        }
        for x in ranked
    }  # fmt: skip
    by_name = {x.name: x for x in ranked}
    limits = [] if small else [
        Limit("liquid-like: CC over blocks that no fit has seen",
              by_name["liquid-like"].cc, at_least=0.70),
        Limit("liquid-like: the same less that as if indexed wrongly",
              by_name["liquid-like"].cc - (by_name["liquid-like"].cc_null or 0.0), at_least=0.3),
    ]  # fmt: skip
    notes = [
        f"{x.name}: {x.cc:.4f} ± {x.cc_error:.4f}, {x.n_numbers} numbers, over {x.reference} "
        f"{x.gain:+.4f} ± {x.gain_error:.4f}"
        + ("" if x.cc_null is None else f", indexed wrongly {x.cc_null:.4f}")
        for x in ranked
    ]
    finish(limits, notes, models=figures)


if __name__ == "__main__":
    main()
