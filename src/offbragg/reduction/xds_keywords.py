"""The ``NAME= value`` pairs of XDS: its input file, and headers of its reflection files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from offbragg.errors import FormatError
from offbragg.reduction._checks import LARGEST

# A name begins a line or follows a blank, so that a = within a path is none.
_NAME = re.compile(r"(?:^|(?<=\s))([A-Z][A-Z0-9_.\-/'()]*)=")


@dataclass(frozen=True)
class Keywords:
    """What a file says, by name; a name may come several times.

    Attributes
    ----------
    path : Path
        The file, for messages.
    values : dict of str to list of str
        Texts after the equal sign, in the order of the file.
    """

    path: Path
    values: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_lines(cls, path: Path, lines: Iterable[str]) -> Keywords:
        """Collect the pairs of lines without their comments."""
        made = cls(path)
        for line in lines:
            found = list(_NAME.finditer(line))
            ends = [match.start() for match in found[1:]] + [len(line)] * bool(found)
            for match, end in zip(found, ends, strict=True):
                text = line[match.end() : end].strip()
                made.values.setdefault(match[1], []).append(text)
        return made

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def wrong(self, name: str, expected: str, found: str) -> FormatError:
        """Build the error for a value of this file."""
        return FormatError(f"{self.path}: {name}: expected {expected}, found {found}")

    def text(self, name: str) -> str:
        """The last value of a name; empty where there is none."""
        return self.values.get(name, [""])[-1]

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """The numbers that must follow a name."""
        if name not in self.values:
            raise self.wrong(name, _number_text(count), "none")
        return self.rows(name, count)[-1]

    def number(self, name: str, default: float | None = None) -> float:
        """The number after a name, or a default where the file does not have that name."""
        if default is not None and name not in self.values:
            return default
        return self.numbers(name, 1)[0]

    def rows(self, name: str, count: int) -> list[tuple[float, ...]]:
        """The numbers after every occurrence of a name."""
        rows = []
        for text in self.values.get(name, []):
            try:
                row = tuple(float(word) for word in text.split()[:count])
            except ValueError:
                row = ()
            if len(row) < count or not all(abs(x) < LARGEST for x in row):
                raise self.wrong(name, _number_text(count), repr(text))
            rows.append(row)
        return rows


def _number_text(count: int) -> str:
    return "a number" if count == 1 else f"{count} numbers"
