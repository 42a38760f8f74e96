"""Write the help of every command to docs/cli/; with --check, only tell if it is current."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from offbragg.cli.main import build_app

FOLDER = Path(__file__).parent / "cli"
COMMANDS = [name for name in build_app() if not name.startswith("-")]


def help_text(tokens: list[str]) -> str:
    """Help of a command as plain text, 100 columns wide."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=100, force_terminal=False, color_system=None)
    build_app().help_print(tokens, console=console)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def kinds_of(command: str) -> list[str]:
    """What stands after a command that has commands of its own, such as ``plot sections``."""
    application = build_app()[command]
    return [] if application.default_command else [x for x in application if x[0] != "-"]


def main() -> int:
    """Write or check the files; 1 where a check finds a difference."""
    wanted = {"offbragg": help_text([])}
    for name in COMMANDS:
        pages = [[name], *([name, kind] for kind in kinds_of(name))]
        wanted[name] = "\n".join(help_text(page) for page in pages)
    if "--check" not in sys.argv:
        FOLDER.mkdir(exist_ok=True)
        for name, text in wanted.items():
            (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")
        return 0
    stale = [
        name
        for name, text in wanted.items()
        if not (FOLDER / f"{name}.txt").is_file()
        or (FOLDER / f"{name}.txt").read_text(encoding="utf-8") != text
    ]
    if stale:
        sys.stderr.write(
            f"docs/cli is not current for {', '.join(stale)}: run python docs/make_cli_help.py\n"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
