"""Which of several models explains a map best: cross-validation over blocks of hkl.

Each model is fitted several times, each time without one fold of the voxels (whole blocks, with
all equivalents), and judged on that fold alone. A model with more parameters that fits better only
where it was fitted shows as what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder import ElasticNetwork, LiquidLike, RigidBody, Uncorrelated
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.inference.cross_validation import CrossValidated, CrossValidation
from offbragg.inference.data import without_masked
from offbragg.inference.jackknife import jackknife_difference, jackknife_error
from offbragg.inference.options import FitOptions
from offbragg.inference.weights import with_expected_sigma
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.wrong_indexing import wrongly_indexed
from offbragg.runtime import SILENT, Progress

#: Names that `standard_models` knows.
STANDARD_MODELS = ("uncorrelated", "rigid-body", "tls", "liquid-like", "elastic-network")
# Correlations that differ by less are the same: fits end a little off their optimum.
_SAME_CC = 1e-5


@dataclass(frozen=True, eq=False)
class RankedModel:
    """One model's cross-validation.

    Attributes
    ----------
    name : str
    model : DisorderModel
        Fitted to all voxels.
    n_numbers : int
        Numbers that were refined.
    cc : float
        Correlation of the anisotropic parts over all voxels, each predicted while it was held out.
    cc_error : float
        Its standard error, by the jackknife over blocks of hkl.
    cc_working : float
        The same of the fit to all voxels.
    cc_by_fold : ndarray, shape (n_folds,)
    cc_without : ndarray, shape (n_blocks,)
        ``cc`` without each block of hkl: what its errors are of, and those of differences between
        models of the same folds that were ranked apart, by `jackknife_difference`.
    behind, behind_error : float
        How far ``cc`` is below the best model's, and the difference's standard error by the same
        jackknife; 0 for the best.
    reference : str
        Name of the model that gains are counted from.
    gain, gain_error : float
        How far ``cc`` is above the reference model's, and its standard error; 0 for the reference.
    cc_null : float or None
        What ``cc`` comes out as on a wrongly indexed map: what a figure must exceed to mean
        anything. None where that was not asked for.
    converged : bool
        Of the fit to all voxels.
    """

    name: str
    model: DisorderModel
    n_numbers: int
    cc: float
    cc_error: float
    cc_working: float
    cc_by_fold: FloatArray
    cc_without: FloatArray
    behind: float
    behind_error: float
    reference: str
    gain: float
    gain_error: float
    cc_null: float | None
    converged: bool


def standard_models(
    structure: AtomicStructure, names: Sequence[str] | None = None
) -> dict[str, DisorderModel]:
    """Models to rank, with starts that the structure's own ADPs suggest.

    Parameters
    ----------
    structure : AtomicStructure
    names : sequence of str, optional
        Of `STANDARD_MODELS`; all where not given.

    Returns
    -------
    dict of str to DisorderModel
        "rigid-body" translates, "tls" turns as well, "liquid-like" is exact and within a copy,
        "elastic-network" has two classes of springs between all atoms, scaled to no ADPs.

    Raises
    ------
    InputError
        If a name is none of these.
    """
    u = max(float(np.trace(structure.u_aniso, axis1=1, axis2=2).mean()) / 3.0, 1e-3)
    arms = structure.positions - structure.positions.mean(axis=0)
    turn = 0.25 * u / max(float(np.mean(np.sum(arms**2, axis=1))) / 3.0, 1e-3)
    edges = (4.5, 9.0)
    starts: dict[str, DisorderModel] = {
        "uncorrelated": Uncorrelated(),
        "rigid-body": RigidBody(0.5 * u),
        "tls": RigidBody(0.25 * u, turn * np.eye(3), np.zeros((3, 3))),
        "liquid-like": LiquidLike(float(np.sqrt(u)), 8.0),
        "elastic-network": ElasticNetwork(
            distance_edges=edges, spring_constants=(2.0 / u, 0.2 / u), scale="absolute",
            nodes="all",
        ),
    }  # fmt: skip
    chosen = STANDARD_MODELS if names is None else tuple(names)
    for name in chosen:
        if name not in starts:
            raise InputError(f"model must be one of {' '.join(STANDARD_MODELS)}, got {name!r}")
    return {name: starts[name] for name in chosen}


def rank_models(  # noqa: PLR0913 - one keyword an option, as users write them
    observed: DiffuseMap,
    structure: AtomicStructure,
    models: Mapping[str, DisorderModel],
    *,
    n_folds: int = 5,
    reference: str | None = None,
    null: bool = False,
    refit: bool = True,
    mask: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> list[RankedModel]:
    """Fit several models with every fold of the voxels held out once, and rank them.

    Parameters
    ----------
    observed : DiffuseMap
    structure : AtomicStructure
    models : mapping of name to DisorderModel
        With the values to start from. A model without anything to refine is judged as it is.
    n_folds : int
        Folds of whole blocks of hkl, the same for every model.
    reference : str, optional
        Name of the model that gains are counted from; "liquid-like" where there is one, else the
        first, where not given.
    null : bool
        Fit and judge every model on a wrongly indexed map too, see `wrongly_indexed`. Twice the
        time.
    refit : bool
        Fit anew without every fold. Otherwise one Gauss–Newton step from the fit to all, where that
        was by Gauss–Newton: several times quicker, and the same to second order in what a fold
        changes.
    mask : array of bool, of the map's shape, optional
        True: left out, as in `fit`.
    rng : numpy.random.Generator, optional
        Draws the folds; seeded with 0 where not given.
    progress : Progress
    options
        As for `fit`, but ``refine``, ``held_out``, ``errors`` and ``n_starts``.

    Returns
    -------
    list of RankedModel
        Best first, by the correlation of anisotropic parts over held-out voxels; but of models
        within one standard error of the best the one of fewest numbers comes first.

    Raises
    ------
    InputError
        As `fit`; if there is no model, none of the reference's name, folds are not at least two,
        or there is no wrong indexing.

    Notes
    -----
    n_folds + 1 fits a model; those of folds start from the fit to all. Without ``refit`` one fit,
    its derivatives, and n_folds maps. Standard errors are those of
    the correlations over the given predictions: that the fits of folds share most of their voxels
    is not in them.

    Examples
    --------
    >>> import offbragg as ob
    >>> from offbragg.made_crystal import make_peptide
    >>> peptide = make_peptide("GAS")
    >>> grid = ob.HklGrid.from_resolution(peptide.cell, 2.5)
    >>> observed = ob.simulate(peptide, ob.RigidBody(0.1), grid)
    >>> models = {"rigid": ob.RigidBody(0.05), "alone": ob.Uncorrelated()}
    >>> [ranked.name for ranked in rank_models(observed, peptide, models, n_folds=2)]
    ['rigid', 'alone']
    """
    settings = _settings(options)
    if not models:
        raise InputError("rank_models: expected at least one model, got none")
    if reference is None:
        reference = "liquid-like" if "liquid-like" in models else next(iter(models))
    if reference not in models:
        raise InputError(f"reference must be one of {', '.join(models)}, got {reference!r}")
    if settings.voxel_average is None:
        settings = replace(settings, voxel_average=observed.count is not None)
    observed = with_expected_sigma(without_masked(observed, mask))
    check_cells_agree(structure.require_cell(), observed.cell, "structure and map")
    rng = rng or np.random.default_rng(0)
    right = CrossValidation.of(observed, structure, settings, n_folds, rng)
    wrong = None
    if null:
        wrong = CrossValidation.of(wrongly_indexed(observed), structure, settings, n_folds, rng)
    progress.start("rank", len(models) * (n_folds + 1) * (2 if null else 1))
    found = {name: right.run(model, progress, refit=refit) for name, model in models.items()}
    floors = {
        name: None if wrong is None else wrong.run(model, progress, refit=refit).cc
        for name, model in models.items()
    }
    ranked = [_beside(name, found, reference, floors[name]) for name in found]
    return _simplest_first(sorted(ranked, key=lambda x: -x.cc))


def _settings(options: dict[str, Any]) -> FitOptions:
    known = set(FitOptions.__dataclass_fields__) - {"refine", "held_out", "errors", "n_starts"}
    unknown = set(options) - known
    if unknown:
        raise InputError(f"rank_models has no option {sorted(unknown)[0]!r}")
    return FitOptions(**options)


def _simplest_first(found: list[RankedModel]) -> list[RankedModel]:
    """Put the model of fewest numbers within one standard error of the best to the front."""
    as_good = [x for x in found if x.behind <= x.behind_error + _SAME_CC]
    chosen = min(as_good, key=lambda x: (x.n_numbers, -x.cc))
    return [chosen, *(x for x in found if x is not chosen)]


def _beside(
    name: str, found: Mapping[str, CrossValidated], reference: str, cc_null: float | None
) -> RankedModel:
    """One model's figures with those beside it that they are to be judged by."""
    one, base = found[name], found[reference]
    best = max(found.values(), key=lambda x: x.cc)
    behind, behind_error = jackknife_difference((best.cc, best.without), (one.cc, one.without))
    gain, gain_error = jackknife_difference((one.cc, one.without), (base.cc, base.without))
    return RankedModel(
        name=name,
        model=one.model,
        n_numbers=one.n_numbers,
        cc=one.cc,
        cc_error=jackknife_error(one.without),
        cc_working=one.cc_working,
        cc_by_fold=one.cc_by_fold,
        cc_without=one.without,
        behind=behind,
        behind_error=behind_error,
        reference=reference,
        gain=gain,
        gain_error=gain_error,
        cc_null=cc_null,
        converged=one.converged,
    )
