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

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import laue_rotations
from offbragg.disorder import ElasticNetwork, LiquidLike, RigidBody, Uncorrelated
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.inference.data import FitData
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.held_out import choose_folds
from offbragg.inference.options import FitOptions
from offbragg.inference.parameters import ParameterVector
from offbragg.inference.solve import solve
from offbragg.inference.weights import with_expected_sigma
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import isotropic_shells, shell_mean
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
    cc_working : float
        The same of the fit to all voxels.
    cc_by_fold : ndarray, shape (n_folds,)
    behind, behind_error : float
        How far ``cc`` by fold is below the best model's, mean and its standard error over folds; 0
        for the best.
    converged : bool
        Of the fit to all voxels.
    """

    name: str
    model: DisorderModel
    n_numbers: int
    cc: float
    cc_working: float
    cc_by_fold: FloatArray
    behind: float
    behind_error: float
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


def rank_models(
    observed: DiffuseMap,
    structure: AtomicStructure,
    models: Mapping[str, DisorderModel],
    *,
    n_folds: int = 5,
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
    rng : numpy.random.Generator, optional
        Draws the folds; seeded with 0 where not given.
    progress : Progress
    options
        As for `fit`, but ``refine``, ``held_out`` and ``errors``.

    Returns
    -------
    list of RankedModel
        Best first, by the correlation of anisotropic parts over held-out voxels; but of models
        within one standard error of the best the one of fewest numbers comes first.

    Raises
    ------
    InputError
        As `fit`; if there is no model, or folds are not at least two.

    Notes
    -----
    n_folds + 1 fits a model; those of folds start from the fit to all.

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
    if settings.voxel_average is None:
        settings = replace(settings, voxel_average=observed.count is not None)
    observed = with_expected_sigma(observed)
    check_cells_agree(structure.require_cell(), observed.cell, "structure and map")
    data = FitData.of(observed, structure.require_cell(), settings.d_min, settings.d_max)
    rotations = laue_rotations(observed.laue_group or observed.space_group)
    folds = choose_folds(
        data.voxels.hkl, rotations, n_folds, rng or np.random.default_rng(0), settings.block_edge
    )
    progress.start("rank", len(models) * (n_folds + 1))
    found = []
    for name, model in models.items():
        fold = _Folds(structure, model, data, settings, folds)
        found.append(fold.ranked(name, progress))
    found.sort(key=lambda x: -x.cc)
    best = found[0].cc_by_fold
    return _simplest_first([_beside(x, best) for x in found])


def _settings(options: dict[str, Any]) -> FitOptions:
    known = set(FitOptions.__dataclass_fields__) - {"refine", "held_out", "errors"}
    unknown = set(options) - known
    if unknown:
        raise InputError(f"rank_models has no option {sorted(unknown)[0]!r}")
    return FitOptions(**options)


def _simplest_first(found: list[RankedModel]) -> list[RankedModel]:
    """Put the model of fewest numbers within one standard error of the best to the front."""
    as_good = [x for x in found if x.behind <= x.behind_error + _SAME_CC]
    chosen = min(as_good, key=lambda x: (x.n_numbers, -x.cc))
    return [chosen, *(x for x in found if x is not chosen)]


def _beside(ranked: RankedModel, best: FloatArray) -> RankedModel:
    apart = best - ranked.cc_by_fold
    error = float(np.std(apart, ddof=1) / np.sqrt(len(apart)))
    return replace(ranked, behind=float(np.mean(apart)), behind_error=error)


@dataclass(frozen=True, eq=False)
class _Folds:
    """One model on the folds of a map."""

    structure: AtomicStructure
    model: DisorderModel
    data: FitData
    settings: FitOptions
    folds: IntArray

    def ranked(self, name: str, progress: Progress) -> RankedModel:
        """Fit to all voxels, then without each fold, and judge each on what it has not seen."""
        every = np.ones(len(self.folds), dtype=bool)
        vector = self._vector()
        whole, start, converged = self._fitted(vector, every, vector.start)
        progress.step()
        predicted = np.empty(len(self.folds))
        by_fold = []
        for fold in range(int(self.folds.max()) + 1):
            held = self.folds == fold
            values, _, _ = self._fitted(vector, ~held, start)
            predicted[held] = values[held]
            by_fold.append(self._cc(values, held))
            progress.step()
        model = vector.model_at(start) if len(start) else self.model
        return RankedModel(
            name, model, len(start), self._cc(predicted, every), self._cc(whole, every),
            np.array(by_fold), 0.0, 0.0, converged,
        )  # fmt: skip

    def _vector(self) -> ParameterVector:
        if not self.model.refinable:
            return ParameterVector(self.model, ())
        return ParameterVector.of(self.model, None, self.model.coherent_unit(self.structure))

    def _fitted(
        self, vector: ParameterVector, working: BoolArray, start: FloatArray
    ) -> tuple[FloatArray, FloatArray, bool]:
        """Scaled intensities at all voxels, the vector, and whether the fit converged."""
        evaluate = Evaluator(
            self.structure, vector, self.data, self.settings.adps,
            bool(self.settings.voxel_average), self.settings.rtol,
        )  # fmt: skip
        if not len(start):
            return evaluate(start), start, True
        solution = solve(evaluate, working, start, self.settings)
        return solution.scale * evaluate(solution.x), solution.x, solution.converged

    def _cc(self, values: FloatArray, chosen: BoolArray) -> float:
        """Correlation of anisotropic parts, each voxel as often as it has equivalents."""
        weights = self.data.voxels.n_equivalents[chosen].astype(np.float64)
        shell = isotropic_shells(self.data.q_length[chosen] / (2 * np.pi))
        n_shells = int(shell.max()) + 1
        parts = []
        for array in (self.data.voxels.intensity[chosen], values[chosen]):
            mean = shell_mean(array, shell, n_shells, weights)
            parts.append(array - mean[shell])
        one, other = parts
        squares = np.sum(weights * one**2) * np.sum(weights * other**2)
        return float(np.sum(weights * one * other) / np.sqrt(squares)) if squares > 0 else 0.0
