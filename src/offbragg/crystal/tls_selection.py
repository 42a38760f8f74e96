"""Atoms of a TLS group, from what refinement programs write to say which they are.

Two languages: lists of residue ranges (``A 1 - A 10, B|5``), and expressions of words
(``chain 'A' and (resid 1 through 48)``), which are turned into the language of
`offbragg.crystal.selection`.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import BoolArray
from offbragg.crystal.selection import select_atoms
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError

logger = logging.getLogger(__name__)

# What stands for an open end of a range of residues.
_FIRST, _LAST = -99999, 99999
_NOT_A_CHAIN = "resid|resi|resseq|residues?|name|resname|element|and|or|not|all|to|through"
_CHAIN = rf"(?!(?:{_NOT_A_CHAIN})\b)(?:[A-Za-z]{{1,4}}|\w{{1,4}}(?=[|:\s]))\s*[|:]?\s*"
_RANGE = re.compile(
    rf"\s*(?:chain\s+)?(?P<chain>{_CHAIN})(?:\*|(?P<first>-?\d+)(?P<code>[A-Za-z]?)"
    rf"(?:\s*(?:-|:|to\b|through\b)\s*(?P<end>{_CHAIN})?(?P<last>-?\d+)(?P<last_code>[A-Za-z]?))?)"
    r"(?![\w|])\s*[,;]?",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"'[^']*'|\"[^\"]*\"|[()]|[^\s()'\",]+|,")
_NUMBERS = re.compile(r"(-?\d+)?([A-Za-z]?)\s*(?:(-|:|\bthrough\b|\bto\b)\s*(-?\d+)?([A-Za-z]?))?")
_LISTS = {"chain": "chain", "name": "name", "resname": "resname", "element": "element",
          "altloc": "altloc", "altid": "altloc"}  # fmt: skip
_WORDS = {"all": "all", "water": "water", "protein": "protein", "backbone": "backbone",
          "hydrogen": "hydrogen", "nucleotide": "nucleic", "nucleic": "nucleic"}  # fmt: skip
_RESIDUES = ("resid", "resi", "resseq", "residue", "residues")
_JOINED = ("and", "or", "not", "(", ")")


@dataclass(frozen=True)
class ResidueRange:
    """Residues of one chain, both ends included; insertion codes as in the file.

    Attributes
    ----------
    chain : str
    first, last : int
    first_code, last_code : str
        Insertion codes, "" for none.
    """

    chain: str
    first: int
    last: int
    first_code: str = ""
    last_code: str = ""

    def __str__(self) -> str:
        start, end = f"{self.first}{self.first_code}", f"{self.last}{self.last_code}"
        return f"{self.chain} {start} - {self.chain} {end}"

    def in_words(self) -> str:
        """The range as part of an expression.

        >>> ResidueRange("A", 1, 9).in_words()
        '(chain A and resid 1-9)'
        """
        return f"(chain {self.chain} and resid {self.first}-{self.last})"

    def mask(self, structure: AtomicStructure) -> BoolArray:
        """Which atoms are of these residues, shape (n_atoms,).

        A structure keeps no insertion codes: residues of a number at an end are all taken, and
        the log says so.
        """
        if self.first_code or self.last_code:
            logger.warning("TLS range %s: insertion codes are not told apart", self)
        numbers = structure.residue_numbers
        inside = (numbers >= self.first) & (numbers <= self.last)
        chosen: BoolArray = inside & (structure.chains == self.chain)
        return chosen


def mask_of_selection(text: str, structure: AtomicStructure) -> BoolArray:
    """Which atoms a TLS group's text names, shape (n_atoms,).

    Raises
    ------
    InputError
        If it is in neither language, or has a word that is not known.

    Examples
    --------
    >>> one = AtomicStructure(None, "P 1", np.zeros((2, 3)), np.array(["C", "C"]), np.ones(2),
    ...                       np.zeros((2, 3, 3)), chains=np.array(["A", "B"]),
    ...                       residue_numbers=np.array([7, 7]))
    >>> mask_of_selection("{ A|5 - A|9 }", one).tolist()
    [True, False]
    >>> mask_of_selection("chain 'B' and resid 1 through 9", one).tolist()
    [False, True]
    """
    ranges = residue_ranges(text)
    if ranges:
        mask: BoolArray = np.any([r.mask(structure) for r in ranges], axis=0)
        return mask
    names = ("positions", "names", "residue_names", "residue_numbers", "chains", "altlocs",
             "elements")  # fmt: skip
    return select_atoms(_translated(text), {name: getattr(structure, name) for name in names})


def residue_ranges(text: str) -> tuple[ResidueRange, ...]:
    """Ranges of a text that is a list of them, else none.

    >>> [str(r) for r in residue_ranges("(A1-A62, B 3)")]
    ['A 1 - A 62', 'B 3 - B 3']
    """
    inner = text.strip()
    while inner and (inner[0], inner[-1]) in (("(", ")"), ("{", "}")):
        inner = inner[1:-1].strip()
    ranges, position = [], 0
    while position < len(inner):
        found = _RANGE.match(inner, position)
        if not found:
            return ()
        chain = found["chain"].rstrip("|: \t")
        end = (found["end"] or chain).rstrip("|: \t")
        if end != chain:
            raise InputError(f"a range must be of one chain, got {found[0].strip()!r}")
        first = _FIRST if found["first"] is None else int(found["first"])
        last = int(found["last"] or first) if found["first"] else _LAST
        last_code = found["last_code"] if found["last"] else found["code"]
        ranges.append(ResidueRange(chain, first, last, found["code"] or "", last_code or ""))
        position = found.end()
    return tuple(ranges)


def _translated(text: str) -> str:
    """The same selection in the words of `select_atoms`."""
    tokens = _TOKEN.findall(text)
    left_over = _TOKEN.sub("", text).strip()
    if left_over:
        raise InputError(f"unexpected {left_over!r}")
    words: list[str] = []
    while tokens:
        word = tokens.pop(0)
        plain = word.lower()
        if plain in _JOINED:
            words.append(plain)
            continue
        if words and words[-1] not in ("and", "or", "not", "("):
            raise InputError(f"expected 'and' or 'or' before {word!r}")
        values = []
        while tokens and tokens[0].lower() not in (*_JOINED, *_LISTS, *_WORDS, *_RESIDUES):
            values.append(tokens.pop(0))
        words.append(_operand(plain, values))
    return " ".join(words)


def _operand(word: str, values: list[str]) -> str:
    if word in _RESIDUES:
        return f"resid {_numbers(' '.join(values))}"
    if word in _LISTS:
        names = [re.sub(r"^(['\"])(.*)\1$", r"\2", value).strip() for value in values[::2]]
        apart = len(values) % 2 and all(value == "," for value in values[1::2])
        if not apart or not all(re.fullmatch(r"[\w'+-]+", name) for name in names):
            raise InputError(f"expected a name after {word!r}, got {' '.join(values)!r}")
        return f"{_LISTS[word]} {' '.join(names)}"
    if word in _WORDS and not values:
        return _WORDS[word]
    known = " ".join([*_WORDS, *_LISTS, *_RESIDUES])
    raise InputError(f"unknown {' '.join([word, *values])!r}, expected one of {known}")


def _numbers(text: str) -> str:
    """Ranges such as ``1:10, 12 through 14``, ``5:`` as ``1-10 12-14 5-99999``."""
    parts, position, lowered = [], 0, text.replace(",", " , ").lower()
    while position < len(lowered):
        if lowered[position] in " ,":
            position += 1
            continue
        found = _NUMBERS.match(lowered, position)
        if not found or not (found[1] or found[4]):
            raise InputError(f"expected residue numbers or ranges, got {text!r}")
        if found[2] or found[5]:
            logger.warning("TLS selection %s: insertion codes are not told apart", text)
        first = int(found[1]) if found[1] else _FIRST
        last = first if not found[3] else int(found[4]) if found[4] else _LAST
        parts.append(f"{first}-{last}")
        position = found.end()
    if not parts:
        raise InputError("expected residue numbers, got none")
    return " ".join(parts)
