"""TLS groups: rigid bodies as refinement programs describe them in PDB and mmCIF files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import gemmi
import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.tls_records import (
    ELEMENTS,
    TlsRecord,
    records_of_cif,
    records_of_remarks,
    remarks_of_records,
)
from offbragg.crystal.tls_selection import mask_of_selection, residue_ranges
from offbragg.errors import FormatError, InputError, MissingFileError

logger = logging.getLogger(__name__)

DEGREE = np.pi / 180.0

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class TlsGroup:
    """A rigid body of a structure and its motion, in Å and radians.

    Attributes
    ----------
    selection : str
        What the file says the group's atoms are.
    atoms : ndarray, shape (n_members,), int64
        Their indices in the structure.
    translation : ndarray, shape (3, 3)
        T [Å²].
    libration : ndarray, shape (3, 3)
        L [rad²]; files hold deg².
    screw : ndarray, shape (3, 3)
        S [Å·rad], ``S_ij = ⟨λ_i t_j⟩``; files hold Å·deg.
    origin : ndarray, shape (3,)
        [Å].

    Raises
    ------
    InputError
        If a tensor is of another shape, not finite, or T or L is not symmetric.
    """

    selection: str
    atoms: IntArray
    translation: FloatArray
    libration: FloatArray
    screw: FloatArray
    origin: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "atoms", np.asarray(self.atoms, dtype=np.int64))
        for name in ("translation", "libration", "screw", "origin"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            shape = (3,) if name == "origin" else (3, 3)
            if values.shape != shape or not np.all(np.isfinite(values)):
                raise InputError(f"{name} must be {shape} finite numbers, got {values.shape}")
            if name in ("translation", "libration") and not np.allclose(
                values, values.T, rtol=1e-8, atol=1e-15
            ):
                raise InputError(f"{name} must be symmetric, got {values.tolist()}")
            object.__setattr__(self, name, values)

    def u_aniso(self, positions: FloatArray) -> FloatArray:
        """Mean-square displacements of atoms at given positions, if they belonged to the group.

        ``U = T + A L Aᵀ + A S + Sᵀ Aᵀ`` with ``A = −[r − r_0]×``.

        Parameters
        ----------
        positions : ndarray, shape (n, 3)
            Cartesian [Å].

        Returns
        -------
        ndarray, shape (n, 3, 3)
            [Å²].
        """
        x, y, z = (np.asarray(positions, dtype=np.float64) - self.origin).T
        zero = np.zeros_like(x)
        a = np.array([[zero, z, -y], [-z, zero, x], [y, -x, zero]]).transpose(2, 0, 1)
        mixed = a @ self.screw
        u: FloatArray = self.translation + a @ self.libration @ a.transpose(0, 2, 1)
        return u + mixed + mixed.transpose(0, 2, 1)


def read_tls_groups(path: str | Path, structure: AtomicStructure) -> tuple[TlsGroup, ...]:
    """Read the TLS groups of a PDB file (REMARK 3) or mmCIF file, possibly gzipped.

    Parameters
    ----------
    path : str or Path
    structure : AtomicStructure
        The file's atoms, or some of them: `TlsGroup.atoms` are indices into it.

    Returns
    -------
    tuple of TlsGroup
        In the file's order; none where the file has none. Groups of which the structure has no
        atom are left out, with a warning in the log. Of several refinements the first is read.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If a number is missing, a selection cannot be read, or groups share atoms: names both.
    """
    path = Path(path)
    try:
        records = _parsed(path, records_of_remarks, records_of_cif)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None
    groups = []
    owner = np.full(structure.n_atoms, "", dtype=object)
    for record in records:
        group = _as_group(path, record, structure)
        if not len(group.atoms):
            logger.warning("%s: TLS group %s has no atom here", path, record.identifier)
            continue
        shared = group.atoms[owner[group.atoms] != ""]
        if len(shared):
            raise FormatError(
                f"{path}: TLS groups {owner[shared[0]]} and {record.identifier} share atom "
                f"{structure.label(int(shared[0]))}"
            )
        owner[group.atoms] = record.identifier
        groups.append(group)
    return tuple(groups)


def tls_remarks(groups: Sequence[TlsGroup]) -> str:
    """Lay groups out as REMARK 3 lines of a PDB file, in the units of such files.

    Parameters
    ----------
    groups : sequence of TlsGroup

    Returns
    -------
    str
        Lines of 80 columns: numbers to 0.0001 Å, Å², deg², Å·deg. A selection that is a list of
        residue ranges becomes RESIDUE RANGE lines, any other stays in words.

    Raises
    ------
    InputError
        If a number is too large for its columns, 10⁴ or more.
    """
    records, numbers = [], []
    for number, group in enumerate(groups, start=1):
        ranges = list(residue_ranges(group.selection))
        if any(len(r.chain) > 1 or abs(r.first) > 9999 or abs(r.last) > 9999 for r in ranges):
            ranges = []  # too wide for the columns
        texts = [] if ranges else [group.selection]
        records.append(TlsRecord(str(number), ranges, texts))
        tensors = {
            "T": group.translation,
            "L": group.libration / DEGREE**2,
            "S": group.screw / DEGREE,
        }
        values = {x: float(tensors[x[0]][int(x[1]) - 1, int(x[2]) - 1]) for x in ELEMENTS}
        values.update(zip("xyz", group.origin.tolist(), strict=True))
        for name, value in values.items():
            if not -999.99995 < value < 9999.99995:
                raise InputError(f"TLS group {number}: {name} must fit 9 columns, got {value:g}")
        numbers.append(values)
    return remarks_of_records(records, numbers)


def add_tls_to_adps(structure: AtomicStructure, groups: Iterable[TlsGroup]) -> AtomicStructure:
    """Return the structure with the groups' U added to that of their atoms.

    For files whose B's are residual, the part that TLS leaves over (see `are_adps_residual`).

    Parameters
    ----------
    structure : AtomicStructure
        With residual ``u_aniso`` [Å²].
    groups : iterable of TlsGroup

    Raises
    ------
    InputError
        If a group holds atoms that are not there.
    """
    u_aniso = structure.u_aniso.copy()
    for group in groups:
        if len(group.atoms) and not 0 <= group.atoms.min() <= group.atoms.max() < len(u_aniso):
            raise InputError(
                f"TLS group {group.selection!r} must hold atom indices 0..{len(u_aniso) - 1}, "
                f"got {group.atoms.min()}..{group.atoms.max()}"
            )
        u_aniso[group.atoms] += group.u_aniso(structure.positions[group.atoms])
    return replace(structure, u_aniso=u_aniso)


def are_adps_residual(path: str | Path) -> bool | None:
    """Whether a file says that its B's are what TLS leaves over; None where it does not say.

    Looks for ``U VALUES : RESIDUAL ONLY`` or ``WITH TLS ADDED`` among the refinement remarks, as
    REFMAC writes them, and for ``B VALUE TYPE : LIKELY RESIDUAL``, in mmCIF
    ``_refine.details`` and ``_refine.pdbx_TLS_residual_ADP_flag``.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no structure.
    """
    said = _parsed(
        Path(path),
        lambda remarks: " ".join(r[10:] for r in remarks if r.startswith("REMARK   3")),
        lambda block: " ".join(
            gemmi.cif.as_string(value)
            for tag in ("_refine.details", "_refine.pdbx_TLS_residual_ADP_flag")
            for value in block.find_values(tag)
        ),
    )
    said = " ".join(said.upper().replace(":", " ").split())
    if "U VALUES WITH TLS ADDED" in said:
        return False
    if "U VALUES RESIDUAL ONLY" in said or "LIKELY RESIDUAL" in said:
        return True
    return None


def _parsed(
    path: Path,
    of_remarks: Callable[[Sequence[str]], Found],
    of_cif: Callable[[gemmi.cif.Block], Found],
) -> Found:
    """Read a file and apply one function to its REMARKs, or the other to its first block."""
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        parsed = gemmi.read_structure(str(path), merge_chain_parts=False)
        is_cif = parsed.input_format == gemmi.CoorFormat.Mmcif
        block = gemmi.cif.read(str(path))[0] if is_cif else None
        remarks = list(parsed.raw_remarks)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else "not readable"
        raise FormatError(f"{path}: not a PDB or mmCIF structure: {reason}") from None
    return of_remarks(remarks) if block is None else of_cif(block)


def _as_group(path: Path, record: TlsRecord, structure: AtomicStructure) -> TlsGroup:
    """Numbers in Å and radians, and the atoms that a record names."""
    name = f"{path}: TLS group {record.identifier}"
    numbers = {key: _number(name, key, record.elements.get(key)) for key in ELEMENTS}
    if len(record.origin) != 3:
        raise FormatError(f"{name}: origin: expected three numbers, found {record.origin}")
    origin = [_number(name, "origin", text) for text in record.origin]
    mask = np.zeros(structure.n_atoms, dtype=bool)
    if not (record.ranges or record.texts):
        raise FormatError(f"{name}: expected residues or a selection, found none")
    for part in record.ranges:
        mask |= part.mask(structure)
    for text in record.texts:
        try:
            mask |= mask_of_selection(text, structure)
        except InputError as error:
            raise FormatError(f"{name}: cannot read the selection {text!r}: {error}") from None
    return TlsGroup(
        selection=_in_one_text(record),
        atoms=np.flatnonzero(mask),
        translation=_symmetric(numbers, "T"),
        libration=_symmetric(numbers, "L") * DEGREE**2,
        screw=np.array([[numbers[f"S{i}{j}"] for j in (1, 2, 3)] for i in (1, 2, 3)]) * DEGREE,
        origin=np.array(origin),
    )


def _in_one_text(record: TlsRecord) -> str:
    """All that a record selects: a list of ranges if it can be, else an expression."""
    ranges, words = list(record.ranges), []
    for text in record.texts:
        found = residue_ranges(text)
        ranges += found
        words += [] if found else [text]
    if not words:
        return ", ".join(map(str, ranges))
    return " or ".join([*(r.in_words() for r in ranges), *words])


def _symmetric(numbers: dict[str, float], letter: str) -> FloatArray:
    keys = [f"{letter}{min(i, j)}{max(i, j)}" for i in (1, 2, 3) for j in (1, 2, 3)]
    return np.array([numbers[key] for key in keys]).reshape(3, 3)


def _number(name: str, key: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        found = "nothing" if text is None else repr(text)
        raise FormatError(f"{name}: {key}: expected a number, found {found}")
    return value
