"""The best of a running fit on disk, so that an interrupted one can go on."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.inference.data import FitData
from offbragg.inference.options import FitOptions
from offbragg.inference.parameters import ParameterVector
from offbragg.maps.io import replace_when_done


@dataclass(eq=False)
class Checkpoint:
    """A file with the best vector so far, and what it is the best of.

    Attributes
    ----------
    path : Path
    key : str
        Digest of model, options and data.
    least : float
        Least misfit written so far.
    """

    path: Path
    key: str
    least: float = float("inf")

    @classmethod
    def of(
        cls, path: str | Path, vector: ParameterVector, data: FitData, settings: FitOptions
    ) -> Checkpoint:
        """Name a file for a fit: how long it may take is no part of what is asked."""
        digest = hashlib.sha256()
        asked = [
            (name, value)
            for name, value in vars(settings).items()
            if name not in ("max_evaluations", "max_seconds", "n_starts")
        ]
        digest.update(repr((vector.model, vector.names, asked)).encode())
        for array in (data.voxels.hkl, data.voxels.intensity, vector.start):
            digest.update(np.ascontiguousarray(array).tobytes())
        return cls(Path(path), digest.hexdigest())

    def keep(self, value: float, x: FloatArray) -> None:
        """Write a vector if it is the best so far; readers never see half a file."""
        if value >= self.least:
            return
        self.least = value
        with replace_when_done(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, x=x, misfit=value, key=np.array(self.key))

    def resumed(self) -> FloatArray:
        """Read the vector back.

        Raises
        ------
        MissingFileError, FormatError
            If there is no such file, or it is no checkpoint.
        InputError
            If it is of another fit.
        """
        if not self.path.is_file():
            raise MissingFileError(f"{self.path}: no such checkpoint")
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                x, key = np.asarray(stored["x"], dtype=np.float64), str(stored["key"])
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise FormatError(f"{self.path}: not a checkpoint: {error}") from None
        if key != self.key:
            raise InputError(
                f"{self.path}: the checkpoint is of another fit: expected the same map, model and "
                "options"
            )
        return x
