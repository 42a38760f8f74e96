"""`fit`: the parameters of a disorder model from a map, by weighted least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import laue_rotations
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.inference.assemble import assemble
from offbragg.inference.bootstrap import (
    bootstrap,
    check_enough_blocks,
    with_bootstrap_errors,
)
from offbragg.inference.checkpoint import Checkpoint
from offbragg.inference.data import FitData, without_masked
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.held_out import blocks_of, choose_held_out
from offbragg.inference.options import FitOptions
from offbragg.inference.other_indexing import told_other_indexing
from offbragg.inference.parameters import ParameterVector
from offbragg.inference.restraints import restraints_of
from offbragg.inference.result import FitResult
from offbragg.inference.starts import solve_from_starts
from offbragg.inference.weights import with_expected_sigma
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.runtime import SILENT, Progress


def fit(
    observed: DiffuseMap,
    structure: AtomicStructure,
    model: DisorderModel,
    refine: Sequence[str] | None = None,
    *,
    mask: ArrayLike | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> FitResult:
    """Refine parameters of a disorder model, or of a sum of models, against a map.

    Equivalent voxels are averaged first, so that each measurement counts once. Scale and
    isotropic background are profiled out at every step.

    Parameters
    ----------
    observed : DiffuseMap
        Weighted by 1/σ² where it has σ, by 1 otherwise; σ as `with_expected_sigma` gives it where
        the map has counts of averaged pixels.
    structure : AtomicStructure
        Its cell gives q; the map's hkl decide which voxels are computed.
    model : DisorderModel
        With the values to start from. Covariances (T, L, M, C, V) stay positive semi-definite,
        positive numbers positive.
    refine : sequence of str, optional
        Names of the parameters to refine; all that the model can refine where not given.
    mask : array of bool, of the map's shape, optional
        True: left out of the fit, before equivalents are averaged; those stay.
    checkpoint : path, optional
        File that the best vector so far is kept in, .npz.
    resume : bool
        Start from what ``checkpoint`` holds; it must be of the same map, model and options.
    adps : {"model", "file"}
        As for `simulate`.
    d_min, d_max : float, optional
        Limits of resolution [Å].
    background : {"smooth", "shells", "none"}
        See `Background`. With "shells" and a map without σ, least squares is the same as the
        highest correlation of the anisotropic parts.
    harmonics : {0, 2, 4, 6, 8}
        Degree of smooth functions of direction that are fitted beside the model, see `Harmonics`;
        0: none. They are part of ``model_map`` and of what it is judged by.
    held_out : float
        Fraction of the voxels kept out of the fit, in contiguous blocks of hkl with all their
        symmetry equivalents.
    block_edge : int, optional
        Edge of these blocks, in reciprocal-lattice units.
    max_evaluations : int, optional
        Maps and derivatives of maps to make at most, those for the errors at the end aside; where
        not given, enough for 25 steps of Gauss-Newton or 300 of L-BFGS.
    max_seconds : float, optional
        Stop after so long and return the best so far, as on a first Ctrl-C; the errors at the end
        take their time.
    n_starts : int
        Starts: the first as given, the others drawn around it, half an e-fold or half of a
        number's own size off. The best is the result; ``FitResult.starts`` tells whether they
        agree.
    voxel_average : bool, optional
        Compare with the model's means over voxels; where not given, if the map has counts of
        averaged pixels.
    rtol : float
        Largest error of a simulation, as a fraction of its mean intensity.
    solver : {"auto", "gauss-newton", "truncated-newton", "l-bfgs"}
        "gauss-newton": trust region, one product a number and step. "truncated-newton": the same
        without a matrix, up to 30 products and gradients a step, however many numbers. "l-bfgs":
        one gradient a step. "auto": the first up to 30 numbers, the last beyond.
    loss : {"squares", "huber", "poisson"}
        "huber": voxels more than 1.3 standard deviations off count less, in up to six rounds of
        weighted fits; for maps with a few wrong voxels. "poisson": the highest likelihood of the
        counts, by rounds in which variances are those of the photons that the fit expects; for maps
        with counts of pixels from which no background was subtracted. Either costs a few fits.
    errors : {"auto", "gauss-newton", "bootstrap", "none"}
        How standard errors are worked out: "gauss-newton" takes voxels as independent, "bootstrap"
        resamples blocks of hkl, see `offbragg.inference.bootstrap`. Both cost a product a number;
        "auto": the first up to 400 numbers, none beyond.
    adp_error : float, optional
        Restrains the model's V_ii to the structure's U_i: departure of an element that is expected
        [Å²]. Beside it ``adps="file"`` fixes them, and ``adps="model"`` alone leaves them free.
    neighbour_error : float, optional
        Restrains bonded atoms to move together: mean-square displacement against each other that
        is expected [Å²], see `neighbours_alike`.
    motion_error : float, optional
        Restrains the model's mean U to be little [Å²], which favours few modes: `little_motion`.
    copy_error : float, optional
        Restrains chains of the same residues to move alike within [Å²], see `copies_alike`.
    rng : numpy.random.Generator, optional
        Draws the blocks; seeded with 0 where not given.
    progress : Progress

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If nothing is measured within the limits, a name is unknown, an option is out of range,
        the map does not vary beyond an isotropic background, the structure's cell is more than
        3 % off the map's, or a bootstrap has fewer than ten blocks.

    Notes
    -----
    A few numbers cost 10 to 40 simulations in all; many, two to three simulations a step.
    """
    settings = _as_options(refine, options)
    if settings.voxel_average is None:
        settings = replace(settings, voxel_average=observed.count is not None)
    vector = ParameterVector.of(model, settings.refine, model.coherent_unit(structure))
    if settings.loss == "poisson" and (observed.sigma is None or observed.count is None):
        raise InputError("loss='poisson' needs a map with σ and counts of averaged pixels")
    observed = with_expected_sigma(without_masked(observed, mask))
    cell = structure.require_cell()
    check_cells_agree(cell, observed.cell, "structure and map")
    data = FitData.of(observed, cell, settings.d_min, settings.d_max)
    rotations = laue_rotations(observed.laue_group or observed.space_group)
    rng = rng or np.random.default_rng(0)
    held_out = choose_held_out(
        data.voxels.hkl, rotations, settings.held_out, rng, settings.block_edge
    )
    if held_out.all():
        raise InputError(
            f"fit: held_out = {settings.held_out:g} leaves none of {len(held_out)} unique voxels"
        )
    if settings.errors == "bootstrap":  # before the work, not after it
        blocks, _ = blocks_of(data.voxels.hkl, rotations, settings.block_edge)
        check_enough_blocks(len(np.unique(blocks[~held_out])))
    unit = model.coherent_unit(structure)
    evaluate = Evaluator(
        structure, vector, data, settings.adps, bool(settings.voxel_average), settings.rtol,
        progress, restraints_of(unit, **settings.expected_departures()),
    )  # fmt: skip
    progress.start("fit", settings.most_evaluations(len(vector.start)))
    kept = None if checkpoint is None else Checkpoint.of(checkpoint, vector, data, settings)
    if resume and kept is None:
        raise InputError("resume needs a checkpoint, got none")
    first = kept.resumed() if resume and kept is not None else None
    solution, starts = solve_from_starts(evaluate, ~held_out, settings, rng, kept, first)
    result = replace(assemble(observed, evaluate, solution, ~held_out, settings), starts=starts)
    other = told_other_indexing(
        observed, result.model_map, lambda: evaluate.full(vector.start),
        d_max=settings.d_max, d_min=settings.d_min,
    )  # fmt: skip
    if other:
        result = replace(result, message=f"{result.message} {other}")
    if settings.errors == "bootstrap" and result.optimum.design is not None:
        result = with_bootstrap_errors(result, bootstrap(result, rng=rng))
    return result


def _as_options(refine: Sequence[str] | None, options: dict[str, Any]) -> FitOptions:
    unknown = set(options) - set(FitOptions.__dataclass_fields__)
    if unknown:
        expected = ", ".join(FitOptions.__dataclass_fields__)
        raise InputError(f"fit has no option {sorted(unknown)[0]!r}, expected one of {expected}")
    names = (refine,) if isinstance(refine, str) else refine
    return FitOptions(refine=None if names is None else tuple(names), **options)
