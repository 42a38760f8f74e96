"""Options that say which atoms of which crystal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from offbragg.crystal.structure import AtomicStructure, read_structure


@Parameter(name="*")
@dataclass(frozen=True)
class StructureOptions:
    """Which atoms, in which crystal.

    Attributes
    ----------
    select : str or None
        Atoms to keep, such as "not water".
    cell : tuple of 6 float or None
        Unit cell a b c alpha beta gamma, in place of the file's.
    space_group : str or None
        Space group, in place of the file's.
    """

    select: str | None = None
    cell: tuple[float, float, float, float, float, float] | None = None
    space_group: str | None = None


def load_structure(path: Path, options: StructureOptions) -> AtomicStructure:
    """Read a structure and select its atoms."""
    structure = read_structure(path, options.cell, options.space_group)
    return structure if options.select is None else structure.select(options.select)
