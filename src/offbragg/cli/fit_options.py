"""Options of the commands that fit: which voxels count, what is refined, what is compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from offbragg.inference.ranking import STANDARD_MODELS

# What `fit` and `rank_models` are not told by these names.
_NOT_PASSED = ("refine", "mask", "seed", "models", "rank")


@dataclass(frozen=True, kw_only=True)
class VoxelOptions:
    """Which voxels count, and for what.

    Attributes
    ----------
    adps : str
        Mean-square displacements: the model's alone, or the file's, the rest uncorrelated.
    d_min : float or None
        High-resolution limit [Å].
    d_max : float or None
        Low-resolution limit [Å].
    background : str
        Isotropic background.
    harmonics : int
        Degree of smooth functions of direction fitted beside the model; 0: none.
    mask : Path or None
        A .npy file of booleans of the map's shape; True: left out.
    seed : int
        Draws the blocks of hkl that are held out.
    max_evaluations : int or None
        Maps and derivatives of maps to make at most in a fit; enough for 25 steps if not given.
    """

    adps: Literal["model", "file"] = "model"
    d_min: float | None = None
    d_max: float | None = None
    background: Literal["smooth", "shells", "none"] = "smooth"
    harmonics: Literal[0, 2, 4, 6, 8] = 0
    mask: Path | None = None
    seed: int = 0
    max_evaluations: int | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RefineOptions(VoxelOptions):
    """What is refined, and how.

    Attributes
    ----------
    refine : tuple of str or None
        Names of parameters; all that the model can refine if not given.
    held_out : float
        Fraction of the voxels held out, in blocks of hkl with their equivalents.
    solver : str
        How; auto: by Gauss-Newton up to 30 numbers, by L-BFGS beyond.
    loss : str
        huber: voxels that are far off count less; poisson: likelihood of the counts, for maps from
        which no background was subtracted.
    voxel_average : bool or None
        Compare with means over voxels; if not given, where the map has counts of pixels.
    errors : str
        Standard errors for independent voxels (auto: of up to 400 numbers), or by resampling blocks
        of hkl.
    n_starts : int
        Starts: the first as given, the others drawn around it; the best is kept.
    max_seconds : float or None
        Stop after so long, with the best so far.
    checkpoint : Path or None
        File that the best so far is kept in, .npz.
    resume : bool
        Go on from what the checkpoint holds.
    adp_error : float or None
        Restrain the model's mean-square displacements to the file's ADPs: departure expected [Å²].
    neighbour_error : float or None
        Restrain bonded atoms to move together: displacement against each other expected [Å²].
    motion_error : float or None
        Restrain the model's mean U to be little [Å²]: favours few modes.
    copy_error : float or None
        Restrain chains of the same residues to move alike within [Å²].
    rank : int or None
        Covariance with --basis: start from the largest motions in it that the map shows, so many,
        and fit each atom's part in them.
    """

    refine: tuple[str, ...] | None = None
    held_out: float = 0.1
    solver: Literal["auto", "gauss-newton", "truncated-newton", "l-bfgs"] = "auto"
    loss: Literal["squares", "huber", "poisson"] = "squares"
    voxel_average: bool | None = None
    errors: Literal["auto", "gauss-newton", "bootstrap", "none"] = "auto"
    n_starts: int = 1
    max_seconds: float | None = None
    checkpoint: Path | None = None
    resume: Annotated[bool, Parameter(negative="")] = False
    adp_error: float | None = None
    neighbour_error: float | None = None
    motion_error: float | None = None
    copy_error: float | None = None
    rank: int | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RankOptions(VoxelOptions):
    """Which models are compared, and how.

    Attributes
    ----------
    models : tuple of str or None
        Models to compare; all if not given.
    n_folds : int
        Folds of whole blocks of hkl; each is held out once.
    reference : str or None
        Model that gains are counted from; liquid-like if compared, else the first, if not given.
    null : bool
        Judge every model on a wrongly indexed map too: what its CC must exceed. Twice the time.
    refit : bool
        Fit anew without every fold, or else one Gauss-Newton step from the fit to all: quicker.
    """

    models: tuple[Literal[STANDARD_MODELS], ...] | None = None  # type: ignore[valid-type]
    n_folds: int = 5
    reference: Literal[STANDARD_MODELS] | None = None  # type: ignore[valid-type]
    null: Annotated[bool, Parameter(negative="")] = False
    refit: bool = True


def passed_on(choice: VoxelOptions) -> dict[str, Any]:
    """Options that the library takes under the same names."""
    return {name: value for name, value in vars(choice).items() if name not in _NOT_PASSED}
