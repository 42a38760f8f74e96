"""What a file of another program may leave open, and what is done where nobody says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from offbragg.crystal.cell import Cell, as_cell
from offbragg.crystal.grid import as_sampling
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.maps.provenance import hash_file, make_step

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportOptions:
    """What a file may leave open.

    Attributes
    ----------
    cell : Cell or six numbers, optional
        Unit cell of the crystal [Å, degrees]; overrules the file's.
    space_group : str, optional
        Hermann–Mauguin symbol; overrules the file's. P 1 where neither says.
    key : str, optional
        Name of the array, group or column of intensities.
    origin : 3 numbers, optional
        hkl of element [0, 0, 0] of an array without axes.
    sampling : 3 int, optional
        Voxels per reciprocal-lattice unit, where the file does not say (default 1, 1, 1).

    Raises
    ------
    InputError
        If the cell is none, or the sampling is not of whole numbers.
    """

    cell: object = None
    space_group: str | None = None
    key: str | None = None
    origin: ArrayLike | None = None
    sampling: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.cell is not None:
            object.__setattr__(self, "cell", as_cell(self.cell))
        if self.sampling is not None:
            object.__setattr__(self, "sampling", as_sampling(self.sampling))


def check_is_file(path: Path) -> None:
    """Raise `MissingFileError` where there is no such file."""
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")


def require_cell(path: Path, given: object, stored: object, hint: str = "") -> Cell:
    """Cell given by the caller, or else the file's.

    Raises
    ------
    InputError
        If there is neither, or the one given is none.
    FormatError
        If the file's is none.
    """
    if given is None and stored is None:
        raise InputError(
            f"{path}: expected a cell (a b c alpha beta gamma), found none in the file{hint}"
        )
    if given is not None:
        return as_cell(given)
    try:
        return as_cell(stored)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None


def choose_space_group(path: Path, given: str | None, stored: object) -> str:
    """Space group given by the caller, or else the file's, or else P 1, which is said."""
    if given is not None:
        return given
    if stored is not None:
        return str(stored)
    logger.warning("%s: no space group given, P 1 is used", path)
    return "P 1"


def import_step(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Entry of provenance: this file was read."""
    return make_step("import", options, inputs=[{"name": path.name, "sha256": hash_file(path)}])
