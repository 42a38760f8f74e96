"""Selections of atoms in words: ``"not water"``, ``"chain A and (name CA or resname LIG)"``."""

from __future__ import annotations

import re
from collections.abc import Mapping

import gemmi
import numpy as np

from offbragg.conventions import BoolArray
from offbragg.errors import InputError

_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_LISTS = {
    "chain": "chains",
    "resname": "residue_names",
    "name": "names",
    "element": "elements",
    "altloc": "altlocs",
}


def select_atoms(selection: str, atoms: Mapping[str, np.ndarray]) -> BoolArray:
    """Evaluate a selection.

    Words: ``all``, ``water``, ``hydrogen``, ``protein``, ``nucleic``, ``ligand`` (neither polymer
    nor water), ``backbone``. Lists: ``chain A B``, ``resname ALA GLY``, ``name CA CB``,
    ``element S``, ``altloc A``, ``resid 1-20 35``. Joined by ``and``, ``or``, ``not`` and
    parentheses; ``not`` binds tightest, then ``and``.

    Parameters
    ----------
    selection : str
    atoms : mapping
        The arrays of an `AtomicStructure` by name, each of shape (n_atoms, ...).

    Returns
    -------
    ndarray, shape (n_atoms,), bool

    Raises
    ------
    InputError
        If the selection is not in this language; the message names the word.
    """
    parser = _Parser(selection, atoms)
    mask = parser.parse_or()
    if parser.tokens:
        raise InputError(f"selection {selection!r}: unexpected {parser.tokens[0]!r}")
    return mask


class _Parser:
    """Recursive descent over the words that are left."""

    def __init__(self, selection: str, atoms: Mapping[str, np.ndarray]) -> None:
        self.selection, self.atoms = selection, atoms
        self.tokens = _TOKEN.findall(selection)

    def next_is(self, word: str) -> bool:
        if self.tokens and self.tokens[0].lower() == word:
            self.tokens.pop(0)
            return True
        return False

    def parse_or(self) -> BoolArray:
        mask = self.parse_and()
        while self.next_is("or"):
            mask = mask | self.parse_and()
        return mask

    def parse_and(self) -> BoolArray:
        mask = self.parse_not()
        while self.next_is("and"):
            mask = mask & self.parse_not()
        return mask

    def parse_not(self) -> BoolArray:
        if self.next_is("not"):
            return ~self.parse_not()
        if self.next_is("("):
            mask = self.parse_or()
            if not self.next_is(")"):
                raise InputError(f"selection {self.selection!r}: expected a closing parenthesis")
            return mask
        if not self.tokens:
            raise InputError(f"selection {self.selection!r}: expected a word at its end")
        word = self.tokens.pop(0).lower()
        if word in _LISTS:
            return np.isin(self.atoms[_LISTS[word]], self.list_values(word))
        if word == "resid":
            return self.residue_ranges()
        return self.word(word)

    def word(self, word: str) -> BoolArray:
        if word == "all":
            return np.ones(len(self.atoms["positions"]), dtype=bool)
        if word == "hydrogen":
            return np.isin(self.atoms["elements"], ["H", "D"])
        if word == "backbone":
            return np.isin(self.atoms["names"], ["N", "CA", "C", "O"]) & self.word("protein")
        names, inverse = np.unique(self.atoms["residue_names"], return_inverse=True)
        kinds = [gemmi.find_tabulated_residue(str(name)) for name in names]
        tests = {
            "water": [kind.is_water() for kind in kinds],
            "protein": [kind.is_amino_acid() for kind in kinds],
            "nucleic": [kind.is_nucleic_acid() for kind in kinds],
            "ligand": [
                not (kind.is_water() or kind.is_amino_acid() or kind.is_nucleic_acid())
                for kind in kinds
            ],
        }
        if word not in tests:
            expected = " ".join(["all hydrogen backbone resid", *tests, *_LISTS])
            raise InputError(
                f"selection {self.selection!r}: unknown word {word!r}, expected one of {expected}"
            )
        return np.array(tests[word], dtype=bool)[inverse]

    def list_values(self, word: str) -> list[str]:
        values = []
        while self.tokens and self.tokens[0].lower() not in ("and", "or", "not", "(", ")"):
            values.append(self.tokens.pop(0))
        if not values:
            raise InputError(f"selection {self.selection!r}: expected values after {word!r}")
        return [value.capitalize() for value in values] if word == "element" else values

    def residue_ranges(self) -> BoolArray:
        numbers = self.atoms["residue_numbers"]
        mask = np.zeros(len(numbers), dtype=bool)
        for text in self.list_values("resid"):
            match = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?", text)
            if not match:
                raise InputError(
                    f"selection {self.selection!r}: expected a number or a range, got {text!r}"
                )
            first, last = int(match[1]), int(match[2] or match[1])
            mask |= (numbers >= first) & (numbers <= last)
        return mask
