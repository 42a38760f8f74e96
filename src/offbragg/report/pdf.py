"""A page as a PDF, printed by a browser that is there, without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from offbragg.errors import InputError, MissingFileError
from offbragg.maps.io import replace_when_done

#: Programs that can print a page, the first that is there is used.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_LONGEST = 180.0  # s
_FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--no-default-browser-check",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--no-pdf-header-footer", "--virtual-time-budget=5000",
)  # fmt: skip


def find_browser() -> str:
    """Path of a browser that prints pages.

    Raises
    ------
    MissingFileError
        If there is none.
    """
    for name in BROWSERS:
        if (found := shutil.which(name)) is not None:
            return found
    raise MissingFileError(
        f"a PDF needs one of {', '.join(BROWSERS)} on the PATH, found none: leave --pdf out, or "
        "print the page from any browser"
    )


def write_pdf(path: str | Path, page: str) -> None:
    """Print a page of HTML to a PDF, A4, with all that is folded away opened.

    Parameters
    ----------
    path : str or Path
    page : str
        HTML that loads nothing from outside.

    Raises
    ------
    MissingFileError
        If there is no browser, or no such folder.
    InputError
        If the browser fails.
    """
    browser = find_browser()
    with replace_when_done(path) as temporary, tempfile.TemporaryDirectory() as folder:
        source, printed = Path(folder, "page.html"), Path(folder, "page.pdf")
        source.write_text(page.replace("<details>", "<details open>"), encoding="utf-8")
        command = [
            browser, *_FLAGS, f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}",
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            # Its sandbox does not work for root.
            command.append("--no-sandbox")
        try:
            done = subprocess.run(
                [*command, source.as_uri()], capture_output=True, timeout=_LONGEST, check=False
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: {browser} did not end within {_LONGEST:g} s") from None
        if done.returncode != 0 or not printed.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise InputError(
                f"{path}: {browser} wrote no PDF (exit code {done.returncode}): "
                f"{said[-1] if said else 'nothing said'}"
            )
        shutil.copyfile(printed, temporary)
