"""Which file of XDS holds a geometry, and reading it."""

from __future__ import annotations

from pathlib import Path

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.xds_geometry import XdsGeometry, is_number
from offbragg.reduction.xds_header import parse_header
from offbragg.reduction.xparm import parse_xparm

_END_OF_HEADER = "!END_OF_HEADER"


def is_xds_geometry(start: bytes) -> bool:
    """Tell from the beginning of a file if `read_xds_geometry` is to read it.

    >>> is_xds_geometry(b" XPARM.XDS    VERSION Jun 1, 2017"), is_xds_geometry(b"{}")
    (True, False)
    """
    text = start.decode("latin-1").lstrip()
    first = text.split("\n", 1)[0]
    if first.startswith("XPARM.XDS"):
        return True
    if first.startswith("!") and ("INTEGRATE.HKL" in first or "XDS_ASCII" in first):
        return True
    words = first.split()
    return len(words) == 6 and all(is_number(word) for word in words)


def read_xds_geometry(path: str | Path) -> XdsGeometry:
    """Read the geometry of XPARM.XDS or GXPARM.XDS, or of the header of a reflection file.

    Both layouts of XPARM.XDS are read: that of 2012 and later, with a first line that begins
    with the file's name, and the older one, without it.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is none of these, or a number in it is missing or wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    lines = []
    with path.open(encoding="latin-1") as stream:
        for line in stream:  # of a reflection file, the header only
            if line.startswith(_END_OF_HEADER):
                break
            lines.append(line.rstrip("\n"))
    text = "\n".join(lines)
    if not is_xds_geometry(text.encode("latin-1")):
        raise FormatError(
            f"{path}: expected XPARM.XDS or the header of INTEGRATE.HKL, found {text[:40]!r}"
        )
    try:
        if text.lstrip().startswith("!"):
            return parse_header(path, lines)
        return parse_xparm(path, [line for line in lines if line.strip()])
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None
