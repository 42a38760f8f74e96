"""Options that every command shares, and how their names appear on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from offbragg.errors import InputError
from offbragg.maps.io import replace_when_done
from offbragg.maps.provenance import plain

_RENAMED = {"n_workers": "workers", "n_starts": "starts", "refine": "refine"}


def flag_name(name: str) -> str:
    """Name of the flag for a field: ``n_workers`` is ``--workers``, ``d_min`` is ``--d-min``."""
    return _RENAMED.get(name, name).strip("_").replace("_", "-")


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """How the command reports.

    Attributes
    ----------
    json : bool
        Print one JSON object on stdout.
    verbose : bool
        Log what is done, to stderr.
    log_file : Path or None
        Add the whole log to this file, with times and the command line.
    """

    json: Annotated[bool, Parameter(negative="")] = False
    verbose: Annotated[bool, Parameter(negative="")] = False
    log_file: Path | None = None


def generator(seed: int) -> np.random.Generator:
    """Random numbers of a seed.

    Raises
    ------
    InputError
        If the seed is negative.
    """
    if seed < 0:
        raise InputError(f"--seed must be >= 0, got {seed}")
    return np.random.default_rng(seed)


Output = Annotated[Path, Parameter(name=["--output", "-o"])]


def output_files(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """Paths of a command's files in its output folder, which need not be there yet.

    Raises
    ------
    InputError
        If the folder is a file, or a file a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output must be a folder, got the file {folder}")
    paths = {key: folder / name for key, name in names.items()}
    for path in paths.values():
        if path.is_dir():
            raise InputError(f"{path}: expected the name of a file, found a folder")
    return paths


def write_json(path: Path, figures: object) -> None:
    """Write figures as JSON, all or nothing."""
    with replace_when_done(path) as temporary:
        temporary.write_text(json.dumps(plain(figures), indent=2) + "\n", encoding="utf-8")
