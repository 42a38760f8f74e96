"""Options that every command shares, and how their names appear on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from offbragg.errors import InputError

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
    """

    json: Annotated[bool, Parameter(negative="")] = False
    verbose: Annotated[bool, Parameter(negative="")] = False


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
