"""The errors that callers may catch: one line each, naming what, expected and found."""

from __future__ import annotations


class OffbraggError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(OffbraggError, ValueError):
    """A value given by the caller is wrong: its name, what was expected, what was found."""


class ExcessiveMotionError(InputError):
    """A model moves an atom by more than the displacement parameter that it is to add up to."""


class FormatError(OffbraggError, ValueError):
    """A file cannot be read: its name, the field, what was expected, what was found."""


class MissingFileError(OffbraggError, FileNotFoundError):
    """A file that was named does not exist or cannot be opened."""
