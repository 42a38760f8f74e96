"""How a map came to be: one entry a step, kept in the map and written with it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def make_step(what: str, options: object = None, **more: Any) -> dict[str, Any]:
    """Describe a step: program, version, what was done, options, time, and anything more.

    Parameters
    ----------
    what : str
        The command or function.
    options : dataclass, mapping or None
        Written as plain values.
    **more
        Further entries, such as ``inputs`` or ``corrections``.

    Examples
    --------
    >>> make_step("merge", {"laue_group": "4/m"})["options"]
    {'laue_group': '4/m'}
    """
    return {
        "program": "offbragg",
        "version": version("offbragg"),
        "command": what,
        "options": plain(options) if options is not None else {},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **{name: plain(value) for name, value in more.items()},
    }


def plain(value: Any) -> Any:
    """Turn a value into what JSON has: mappings, lists, text, finite numbers, None.

    >>> plain({"shape": (2, 3), "at": np.float64(0.5)})
    {'shape': [2, 3], 'at': 0.5}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return fields
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
