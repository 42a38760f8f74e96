"""Where the package's log goes: stderr, and a file beside it."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from offbragg.errors import InputError

#: The logger of the whole package, and the one of what goes to the file alone.
LOGGER = logging.getLogger("offbragg")
_FILE_ONLY = "offbragg.log_file"


@contextmanager
def logging_to(
    log_file: Path | None, *, verbose: bool, arguments: Sequence[str]
) -> Iterator[logging.Logger]:
    """Send the package's log to stderr, warnings or everything, and all of it to a file too.

    Parameters
    ----------
    log_file : Path or None
        Lines are added at its end, each with the time; the first tells version and command line,
        the last how long it took.
    verbose : bool
        Show everything on stderr, not only warnings.
    arguments : sequence of str
        The command line, without the program's name.

    Yields
    ------
    logging.Logger
        What is said to it goes to the file alone.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    shown = RichHandler(
        console=Console(stderr=True), show_time=verbose, show_path=False, show_level=True
    )
    shown.setLevel(logging.INFO if verbose else logging.WARNING)
    shown.addFilter(lambda record: record.name != _FILE_ONLY)
    kept = logging.NullHandler() if log_file is None else _open(log_file)
    kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.handlers[:] = [shown, kept]
    LOGGER.setLevel(logging.INFO if verbose or log_file is not None else logging.WARNING)
    LOGGER.propagate = False
    teller = logging.getLogger(_FILE_ONLY)
    teller.info("offbragg %s: %s", version("offbragg"), shlex.join(["offbragg", *arguments]))
    teller.info("in %s, process %d", Path.cwd(), os.getpid())
    begun = time.monotonic()
    try:
        yield teller
    except BaseException as error:
        teller.error("%s", type(error).__name__, exc_info=error)
        raise
    finally:
        teller.info("ended after %.1f s", time.monotonic() - begun)
        LOGGER.removeHandler(kept)
        kept.close()


def _open(path: Path) -> logging.Handler:
    if path.exists() and not path.is_file():
        raise InputError(f"--log-file: {path}: expected the name of a file")
    try:
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"--log-file: {path}: cannot be written: {reason}") from None
