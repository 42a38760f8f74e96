"""All of a map but its arrays, as one JSON object, and that object in lines of fixed length.

MTZ files have history, CCP4 files labels, both lines of 80 characters: the object is cut up over as
many as it needs, each piece between bars, since blanks at the ends of a line are lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.options import ImportOptions, logger, require_cell
from offbragg.maps.provenance import plain

VERSION = 1

_MARK = "offbragg|"
_LINE = 80
_LARGEST = 2**33  # voxels: more than any memory holds


def describe(diffuse_map: DiffuseMap) -> dict[str, Any]:
    """Grid, cell and groups of a map, as JSON has them."""
    grid = diffuse_map.grid
    return {
        "offbragg_map": VERSION,
        "cell": list(grid.cell),
        "space_group": diffuse_map.space_group,
        "laue_group": diffuse_map.laue_group,
        "sampling": list(grid.sampling),
        "first": grid.first_index.tolist(),
        "shape": list(grid.shape),
        "d_min": grid.d_min,
    }


def to_json(value: Any) -> str:
    """JSON that `from_json` gives back: mappings, lists, numbers (NaN too), text, None."""
    return json.dumps(value, default=plain, separators=(",", ":"))


def from_json(path: Path, name: str, text: str) -> Any:
    """Parse JSON.

    Raises
    ------
    FormatError
        If it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise FormatError(f"{path}: {name}: expected JSON, found {text[:40]!r}") from None


def to_lines(header: Mapping[str, Any]) -> list[str]:
    """Cut a header into lines of at most 80 characters.

    >>> to_lines({"sampling": [1, 1, 1]})
    ['offbragg|{"sampling":[1,1,1]}|']
    """
    text = to_json(header)
    length = _LINE - len(_MARK) - 1
    return [f"{_MARK}{text[i : i + length]}|" for i in range(0, len(text), length)]


def from_lines(path: Path, lines: Iterable[str]) -> dict[str, Any] | None:
    """Put a header together again; None where no line has a piece of it.

    Raises
    ------
    FormatError
        If the pieces are no header of this version.
    """
    stripped = [line.strip("# \t\r\n\0") for line in lines]
    pieces = [x[len(_MARK) : -1] for x in stripped if x.startswith(_MARK) and x.endswith("|")]
    if not pieces:
        return None
    header = from_json(path, "header", "".join(pieces))
    version = header.get("offbragg_map") if isinstance(header, dict) else None
    if not isinstance(header, dict) or version != VERSION:
        raise FormatError(
            f"{path}: header offbragg_map: expected {VERSION}, found {version}: a later version of "
            "the program may read it"
        )
    return header


def grid_of(path: Path, header: Mapping[str, Any], options: ImportOptions) -> HklGrid:
    """Grid that a header tells of; a cell given by the caller overrules.

    Raises
    ------
    FormatError
        If something is missing or does not fit.
    """
    if options.sampling is not None or options.origin is not None:
        logger.warning("%s: the file tells its sampling and origin, those given are not used", path)
    try:
        first, shape, sampling = (
            [int(x) for x in header[name]] for name in ("first", "shape", "sampling")
        )
        size = np.prod(shape, dtype=float)
        if len(shape) != 3 or not 0 < size < _LARGEST:
            raise FormatError(f"{path}: header shape: expected three numbers, found {shape}")
        axes = [(f + np.arange(n)) / s for f, n, s in zip(first, shape, sampling, strict=True)]
        cell = require_cell(path, options.cell, header["cell"])
        n_h, n_k, n_l = sampling
        d_min = header["d_min"]
        return HklGrid(
            cell,
            axes[0],
            axes[1],
            axes[2],
            (n_h, n_k, n_l),
            None if d_min is None else float(d_min),
        )
    except FormatError:
        raise
    except KeyError as error:
        raise FormatError(f"{path}: header: expected {error.args[0]}, found none") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise FormatError(f"{path}: header: {error}") from None
