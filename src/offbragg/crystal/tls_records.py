"""TLS groups as files hold them: REMARK 3 of a PDB file, ``_pdbx_refine_tls`` of an mmCIF file.

Numbers stay in the units of files: T in Å², L in deg², S in Å·deg.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import gemmi

from offbragg.crystal.tls_selection import ResidueRange
from offbragg.errors import InputError

logger = logging.getLogger(__name__)

_SYMMETRIC = ("11", "22", "33", "12", "13", "23")
_ALL_NINE = ("11", "12", "13", "21", "22", "23", "31", "32", "33")
#: Names of the elements of T, L and S that a file gives.
ELEMENTS = (
    *(f"T{x}" for x in _SYMMETRIC),
    *(f"L{x}" for x in _SYMMETRIC),
    *(f"S{x}" for x in _ALL_NINE),
)
# Two to three a line, as programs write them.
_LINES_OF_ELEMENTS = (
    ("T TENSOR", (("T11", "T22"), ("T33", "T12"), ("T13", "T23"))),
    ("L TENSOR", (("L11", "L22"), ("L33", "L12"), ("L13", "L23"))),
    ("S TENSOR", (("S11", "S12", "S13"), ("S21", "S22", "S23"), ("S31", "S32", "S33"))),
)
_GROUP = re.compile(r"\s*TLS GROUP\s*:\s*(\S+)", re.IGNORECASE)
_RANGE = re.compile(r"\s*RESIDUE RANGE\s*:\s*(.*)", re.IGNORECASE)
_SELECTION = re.compile(r"\s*(?:SELECTION|SET)\s*:\s*(.*)", re.IGNORECASE)
_ORIGIN = re.compile(r"\s*ORIGIN FOR THE GROUP[^:]*:(.*)", re.IGNORECASE)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ELEMENT = re.compile(rf"([TLS][123][123])\s*:\s*({_NUMBER}|\S+)")
_RESIDUE = re.compile(r"(-?\d+)([A-Za-z]?)")
_WIDTH = 80


@dataclass
class TlsRecord:
    """One group as a file has it.

    Attributes
    ----------
    identifier : str
    ranges : list of ResidueRange
    texts : list of str
        Selections in words.
    elements : dict of str to str
        By the names of `ELEMENTS`.
    origin : list of str
        Three numbers.
    """

    identifier: str
    ranges: list[ResidueRange] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    elements: dict[str, str] = field(default_factory=dict)
    origin: list[str] = field(default_factory=list)


def records_of_remarks(remarks: Sequence[str]) -> list[TlsRecord]:
    """Find the TLS groups among the REMARK lines of a PDB file.

    Where groups are numbered anew, by a second refinement against the same crystal, those of the
    first are taken.

    Raises
    ------
    InputError
        If a residue range cannot be read.
    """
    records: list[TlsRecord] = []
    current: TlsRecord | None = None
    for line in remarks:
        if not line.startswith("REMARK   3"):
            continue
        text = line[10:].rstrip()
        if found := _GROUP.match(text):
            if any(record.identifier == found[1] for record in records):
                logger.warning("TLS groups of a second refinement are left out")
                break
            current = TlsRecord(found[1])
            records.append(current)
        elif current is not None:
            _read_line(current, text)
            if "S33" in current.elements:
                current = None
    return records


def _read_line(record: TlsRecord, text: str) -> None:
    """Add what one line says to a record; its origin ends a selection of several lines."""
    if found := _RANGE.match(text):
        record.ranges.append(_range_of_remark(record.identifier, found[1]))
    elif found := _SELECTION.match(text):
        record.texts.append(found[1].strip())
    elif found := _ORIGIN.match(text):
        record.origin = re.findall(_NUMBER, found[1])
    elif elements := _ELEMENT.findall(text):
        record.elements.update(elements)
    elif record.texts and not record.origin and text.strip():
        record.texts[-1] += f" {text.strip()}"


def _range_of_remark(identifier: str, text: str) -> ResidueRange:
    """``A     1        A   348``; two numbers alone are of a chain without name."""
    words = text.split()
    if len(words) == 2:
        words = ["", words[0], "", words[1]]
    ends = [_RESIDUE.fullmatch(word) for word in words[1::2]]
    if len(words) != 4 or ends[0] is None or ends[1] is None or words[0] != words[2]:
        raise InputError(
            f"TLS group {identifier}: RESIDUE RANGE: expected chain, residue, the same chain, "
            f"residue, found {text.strip()!r}"
        )
    first, last = ends[0], ends[1]
    return ResidueRange(words[0], int(first[1]), int(last[1]), first[2], last[2])


def records_of_cif(block: gemmi.cif.Block) -> list[TlsRecord]:
    """Find the TLS groups of an mmCIF block, of its first refinement if it has several.

    A selection in words goes before a range of residues, unless it is missing.

    Raises
    ------
    InputError
        If a residue number cannot be read.
    """
    records: dict[str, TlsRecord] = {}
    refinement = None
    for row in _rows(block, "_pdbx_refine_tls."):
        refinement = row.get("pdbx_refine_id", "") if refinement is None else refinement
        if row.get("pdbx_refine_id", "") != refinement:
            logger.warning("TLS groups of a second refinement are left out")
            continue
        elements = {x: row.get(f"{x[0]}[{x[1]}][{x[2]}]", "") for x in ELEMENTS}
        origin = [row.get(f"origin_{axis}", "") for axis in "xyz"]
        records[row.get("id", "")] = TlsRecord(row.get("id", ""), [], [], elements, origin)
    for row in _rows(block, "_pdbx_refine_tls_group."):
        record = records.get(row.get("refine_tls_id", ""))
        if record is None:
            continue
        if row.get("selection_details"):
            record.texts.append(row["selection_details"])
        elif row.get("beg_auth_seq_id"):
            record.ranges.append(_range_of_row(record.identifier, row))
    return list(records.values())


def _rows(block: gemmi.cif.Block, category: str) -> Iterator[dict[str, str]]:
    """Rows of a category by tag; what a file does not know is left out."""
    table = block.find_mmcif_category(category)
    tags = [tag[len(category) :] for tag in table.tags]
    for row in table:
        values = [None if gemmi.cif.is_null(x) else gemmi.cif.as_string(x) for x in row]
        yield {tag: x for tag, x in zip(tags, values, strict=True) if x is not None}


def _range_of_row(identifier: str, row: Mapping[str, str]) -> ResidueRange:
    texts = [
        row.get(f"{end}_auth_seq_id", "") + row.get(f"{end}_PDB_ins_code", "")
        for end in ("beg", "end")
    ]
    ends = [_RESIDUE.fullmatch(text) for text in texts]
    chains = [row.get(f"{end}_auth_asym_id", "") for end in ("beg", "end")]
    if ends[0] is None or ends[1] is None or chains[1] not in ("", chains[0]):
        raise InputError(
            f"TLS group {identifier}: expected a range of residues of one chain, found "
            f"{chains[0]} {texts[0]} - {chains[1]} {texts[1]}"
        )
    first, last = ends[0], ends[1]
    return ResidueRange(chains[0], int(first[1]), int(last[1]), first[2], last[2])


def remarks_of_records(records: Sequence[TlsRecord], numbers: Sequence[Mapping[str, float]]) -> str:
    """Lay records out as REMARK 3 lines of 80 columns; numbers by name, x, y, z the origin's."""
    lines = ["", " TLS DETAILS", f"  NUMBER OF TLS GROUPS  : {len(records):4d}"]
    for record, values in zip(records, numbers, strict=True):
        lines += ["", f"  TLS GROUP : {record.identifier:>5s}"]
        if record.ranges:
            lines += [
                f"   NUMBER OF COMPONENTS GROUP : {len(record.ranges):4d}",
                "   COMPONENTS        C SSSEQI   TO  C SSSEQI",
            ]
        for r in record.ranges:
            start = f"{r.chain:>4s} {r.first:5d}{r.first_code or ' '}"
            end = f"{r.chain:>4s} {r.last:5d}{r.last_code or ' '}"
            lines.append(f"   RESIDUE RANGE :{start}    {end}")
        for text in record.texts:
            lines += _wrapped("   SELECTION: ", text)
        xyz = "".join(f"{values[axis]:9.4f}" for axis in "xyz")
        lines.append(f"   ORIGIN FOR THE GROUP (A):{xyz}")
        for title, rows in _LINES_OF_ELEMENTS:
            lines.append(f"   {title}")
            for row in rows:
                lines.append("    " + "".join(f" {x}:{values[x]:9.4f}" for x in row))
    return "".join(f"{'REMARK   3 ' + line:<{_WIDTH}}\n" for line in lines)


def _wrapped(prefix: str, text: str) -> list[str]:
    """A text cut at spaces to the width of a line, continued under its beginning."""
    lines, current = [], ""
    width = _WIDTH - len("REMARK   3 ") - len(prefix)
    for word in text.split():
        if current and len(current) + 1 + len(word) > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}".strip()
    lines.append(current)
    indent = " " * len(prefix)
    return [(indent if number else prefix) + line for number, line in enumerate(lines)]
