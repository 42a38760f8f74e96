"""The program `offbragg`: its commands, its exit codes, one clear line on bad input.

Exit 0: done. 1: failed, bad input included. 2: wrong use.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version

from cyclopts import App, CycloptsError, Parameter

from offbragg.cli.console import Outcome, emit
from offbragg.cli.logs import logging_to
from offbragg.cli.options import Common, flag_name
from offbragg.errors import OffbraggError

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

COMMANDS = {
    "demo": "fitting:demo",
    "simulate": "forward:simulate",
    "expose": "forward:expose",
    "map": "mapping:map_images",
    "mask": "masking:mask",
    "scale": "scaling:scale",
    "merge": "maps:merge",
    "stats": "maps:stats",
    "fit": "fitting:fit",
    "rank": "fitting:rank",
    "infer": "inferring:infer",
    "compare": "maps:compare",
    "reindex": "indexing:reindex",
    "absolute": "absolute:absolute",
    "import": "files:import_map",
    "export": "files:export",
    "delta-pdf": "real_space:delta_pdf",
    "covariance": "real_space:covariance",
    "ensemble": "real_space:ensemble",
    "plot": "plotting:plot",
    "view": "viewing:view",
    "info": "describing:info",
    "report": "reporting:report",
}

logger = logging.getLogger(__name__)


def build_app(command: str | None = None) -> App:
    """Build the tree of commands; nothing is run.

    Where a command is named, the modules of the others, which take seconds, are not imported.
    """
    app = App(
        name="offbragg",
        help="Macromolecular diffuse X-ray scattering: images to maps to correlated motions.",
        version=version("offbragg"),
        default_parameter=Parameter(
            name_transform=flag_name, negative_iterable="", consume_multiple=True
        ),
        help_format="plaintext",
    )
    all_names = () if command == "--version" else tuple(COMMANDS)
    for name in (command,) if command in COMMANDS else all_names:
        module, function = COMMANDS[name].split(":")
        app.command(getattr(import_module(f"offbragg.cli.{module}"), function), name=name)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    app = build_app(arguments[0] if arguments else None)
    try:
        command, bound, _ = app.parse_args(list(arguments), print_error=False, exit_on_error=False)
    except (CycloptsError, OffbraggError) as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"offbragg: {line} (see offbragg --help)\n")
        return WRONG_USE
    common = bound.arguments.get("common") or Common()
    name = arguments[0] if arguments else ""
    try:
        with logging_to(common.log_file, verbose=common.verbose, arguments=arguments) as kept:
            return _call(partial(command, *bound.args, **bound.kwargs), name, common, kept)
    except OffbraggError as error:  # of the log file itself
        sys.stderr.write(f"offbragg: {error}\n")
        return FAILED


def _call(command: Callable[[], object], name: str, common: Common, kept: logging.Logger) -> int:
    """Call a command, show what it did and return the exit code."""
    try:
        outcome = command()
        if isinstance(outcome, Outcome):
            emit(name, outcome, as_json=common.json)
            for what, path in outcome.outputs.items():
                kept.info("written: %s %s", what, path)
    except BrokenPipeError:
        return FAILED
    except (OffbraggError, OSError, MemoryError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(f"offbragg: {line}\n")
        kept.error(line)
        logger.info("where", exc_info=error)
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("offbragg: interrupted\n")
        kept.error("interrupted")
        return INTERRUPTED
    return DONE


def main() -> None:
    """Entry point of the program."""
    # Threads that wait should sleep: beside other work, spinning makes loops several times slower.
    # Compiled loops start their threads at the first call, and read this then.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or pipe without the letters Å or ½ must not end a command.
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))
