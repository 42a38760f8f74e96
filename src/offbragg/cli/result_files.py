"""What figures show of the files that commands write: agreement by shell, and correlations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offbragg.cli.arrays import read_numbers
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import FormatError, InputError, MissingFileError

# The models are slow to import, and most figures need none.
if TYPE_CHECKING:
    from offbragg.disorder.residues import ResidueCorrelations

_EXPECTED = (
    "expected the inferred.json of infer, the parameters.json of fit, the .json table of "
    "covariance, or with --structure a covariance in .npy"
)

_OF_SHELLS = ("d_max", "d_min", "cc", "r", "cc_anisotropic", "r_anisotropic")
_BY_DISTANCE = ("r_min", "r_max", "correlation", "correlation_std")


def read_json(path: Path) -> Mapping[str, Any]:
    """Read an object of JSON.

    Raises
    ------
    MissingFileError, FormatError
        If there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON: {error}") from None
    if not isinstance(whole, dict):
        raise FormatError(f"{path}: expected an object, found {type(whole).__name__}")
    return whole


def fit_tables(path: Path) -> dict[str, Any]:
    """Shells of a fit's working and held-out voxels.

    Raises
    ------
    MissingFileError, FormatError
        If there is no such file, or it is not the parameters.json of a fit.
    """
    figures = read_json(path).get("statistics")
    sets = figures.items() if isinstance(figures, dict) else ()
    tables = {
        name.replace("_", "-"): values.get("shells")
        for name, values in sets
        if isinstance(values, dict)
    }
    if not tables or not all(_has_columns(table, _OF_SHELLS) for table in tables.values()):
        raise FormatError(f"{path}: expected the parameters.json of a fit, found no shells in it")
    return tables


def distance_table(whole: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The table by distance of `offbragg covariance`; None where it is another file."""
    result = whole.get("result")
    table = result.get("table") if isinstance(result, dict) else None
    return table if _has_columns(table, _BY_DISTANCE) else None


def _has_columns(table: Any, names: tuple[str, ...]) -> bool:
    """Whether a table has columns of numbers or None, all of one length."""
    if not isinstance(table, dict) or any(name not in table for name in names):
        return False
    try:
        columns = np.array([table[name] for name in names], dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return columns.ndim == 2


def residues_in(path: Path, whole: Mapping[str, Any]) -> ResidueCorrelations:
    """Correlations of residues that `infer` and `fit` write.

    Raises
    ------
    FormatError
        If the file has none.
    """
    from offbragg.disorder.residues import ResidueCorrelations

    labels, matrix = whole.get("residues"), whole.get("covariance")
    if labels is None and "parameters" in whole:
        raise FormatError(
            f"{path}: no correlations of residues: written before fits kept them, or its motions "
            "reach across copies"
        )
    try:
        covariance = np.array(matrix, dtype=np.float64)
        parts = [str(label).split() for label in labels or ()]
        numbers = np.array([int(part[-1]) for part in parts], dtype=np.int64)
    except (TypeError, ValueError, IndexError):
        raise FormatError(f"{path}: {_EXPECTED}") from None
    n = len(numbers)
    if n == 0 or covariance.shape != (n, n) or not np.all(np.isfinite(covariance)):
        raise FormatError(f"{path}: {_EXPECTED}")
    chains = np.array([part[0] if len(part) > 2 else "" for part in parts])
    return ResidueCorrelations(tuple(map(str, labels or ())), numbers, chains, covariance)


def residues_of_matrix(path: Path, structure: AtomicStructure | None) -> ResidueCorrelations:
    """Correlations of residues from a covariance of atoms in a .npy file.

    Raises
    ------
    InputError, FormatError, MissingFileError
        If there is no structure, or the matrix is not one of its atoms.
    """
    from offbragg.disorder import Covariance
    from offbragg.disorder.residues import residue_correlations

    if structure is None:
        raise InputError(f"{path}: a covariance of atoms needs --structure FILE")
    moves = Covariance(read_numbers(str(path), path)).displacements(structure)
    return residue_correlations(moves, structure)
