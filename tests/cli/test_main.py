"""The program: exit codes, help, what goes to stdout and what to stderr."""

import json
import logging
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from offbragg.cli import maps
from offbragg.cli.console import Outcome, show
from offbragg.cli.main import build_app, main, run
from offbragg.cli.options import flag_name, generator
from offbragg.errors import InputError

COMMANDS = (
    "demo", "simulate", "expose", "map", "mask", "scale", "merge", "stats", "fit", "rank",
    "infer", "compare", "reindex", "absolute", "import", "export", "delta-pdf", "covariance",
    "ensemble", "plot", "view", "info", "report",
)  # fmt: skip

PLOTS = ("sections", "profile", "shells", "model", "correlations", "halos")
EXPLAINED = (*(x for x in COMMANDS if x != "plot"), *(f"plot {kind}" for kind in PLOTS))


def run_process(*arguments, **options):
    """Run the installed program in a process of its own."""
    program = Path(sys.executable).with_name("offbragg")
    return subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, timeout=120, check=False,
        stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip


# --- 1 reference numbers -------------------------------------------------


def test_names_of_flags():
    assert flag_name("d_min") == "d-min"
    assert flag_name("n_workers") == "workers"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (float("nan"), "–"), (0.98765432, "0.9877"), (12345, "12345"), ("x", "x")],
)
def test_cells_of_tables(value, expected):
    assert show(value) == expected


def test_the_commands_are_these():
    assert {name for name in build_app() if not name.startswith("-")} == set(COMMANDS)


# --- 2 the program itself ------------------------------------------------


def test_the_installed_program_runs_without_a_terminal(work, tmp_path):
    made = run_process("simulate", work / "s.pdb", "-o", tmp_path / "x.h5", "--model",
                       "uncorrelated", "--d-min", 4, "--json")  # fmt: skip
    assert (made.returncode, made.stderr) == (0, b"")
    whole = json.loads(made.stdout)
    assert whole["command"] == "simulate"
    assert whole["version"] == version("offbragg")
    assert whole["outputs"] == {"map": str(tmp_path / "x.h5")}
    assert (tmp_path / "x.h5").is_file()


def test_the_installed_program_fails_in_one_line_of_any_alphabet(work):
    # Å cannot be written in ASCII: that is no reason for a traceback.
    made = run_process(
        "simulate", work / "s.pdb", "-o", work / "x.h5", "--model", "uncorrelated", "--d-min", "0",
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
    )  # fmt: skip
    assert made.returncode == 1
    assert made.stdout == b""
    assert made.stderr == b"offbragg: d_min must be > 0 ?, got 0.0\n"


# --- 3 exit codes --------------------------------------------------------


@pytest.mark.parametrize("command", ["", "plot", *EXPLAINED])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_given(call, command, flag):
    made = call(*command.split(), flag)
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("Usage: offbragg")
    assert command in made.out


def test_every_option_is_explained(call):
    # A line of help without words is an option that nobody explained.
    for command in EXPLAINED:
        application = build_app()
        for part in command.split():
            application = application[part]
        for argument in application.assemble_argument_collection(parse_docstring=True):
            if argument.parse and not argument.children:
                assert argument.parameter.help, f"{command} {argument.name}"


def test_the_version_is_told(call):
    made = call("--version")
    assert (made.code, made.out, made.err) == (0, version("offbragg") + "\n", "")


def test_no_command_gives_help(call):
    made = call()
    assert made.code == 0
    assert made.out.startswith("Usage: offbragg COMMAND")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], 'Unknown command "nonsense"'),
        (["--nonsense"], 'Unknown command "--nonsense"'),
        (["--json"], "Unknown command"),
        (["stats"], "MAP-FILE requires an argument|MAP_FILE requires an argument"),
        (["stats", "a.h5", "b.h5"], "Unused Tokens"),
        (["stats", "a.h5", "--nonsense"], "Unknown option: --nonsense"),
        (["stats", "a.h5", "--n-shells", "many"], "unable to convert"),
        (["stats", "a.h5", "--n-shells"], "--n-shells requires an argument"),
        (["compare", "a.h5"], "requires an argument"),
        (["plot", "nonsense"], 'Unknown command "nonsense"'),
        (["plot", "sections", "a.h5"], "--output requires an argument"),
        (["plot", "sections", "a.h5", "-o", "x.pdf", "--plane", "kh"], 'Invalid value "kh"'),
        (["plot", "sections", "a.h5", "-o", "x.pdf", "--rings", "0"], "rings must be at d > 0 Å"),
        (["simulate", "s.pdb", "-o", "x.h5"], "--model requires an argument"),
        (["simulate", "s.pdb", "--model", "uncorrelated"], "--output requires an argument"),
        (["simulate", "s.pdb", "-o", "x.h5", "--model", "magic"], 'Invalid value "magic"'),
        (["fit", "m.h5", "s.pdb", "-o", "x", "--model", "covariance", "--adps", "b"],
         '"b" for --adps'),
        (["map", "e.expt", "-o", "x.h5"], "--d-min requires an argument"),
        (["map", "e.expt", "-o", "x.h5", "--d-min", "-1"], "d_min must be > 0 Å, got -1"),
        (["map", "e.expt", "-o", "x.h5", "--d-min", "2", "--bragg", "maybe"],
         "bragg must be one of"),
        (["expose", "m.h5", "e.expt", "-o", "x"], "--photons requires an argument"),
        (["expose", "m.h5", "e.expt", "-o", "x", "--photons", "nan"], "photons must be > 0"),
        (["demo", "--n-images", "3"], "at least 20 images"),
        (["demo", "--n-pixels", "65"], "n_pixels must be even, got 65"),
        (["demo", "--photons", "0"], "photons must be > 0 a pixel, got 0"),
        (["demo", "--seed", "-1"], "seed must be >= 0, got -1"),
    ],
)  # fmt: skip
def test_wrong_use_is_two(refused, arguments, message):
    line = refused(*arguments, code=2)
    assert any(part in line for part in message.split("|"))
    assert line.endswith("(see offbragg --help)\n")


def test_an_interruption_is_said(call, work, monkeypatch):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(maps, "read_map", interrupt)
    assert call("stats", work / "m.h5") == (130, "", "offbragg: interrupted\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("two\nlines  of it"), "two lines of it"),
        (PermissionError(13, "Permission denied", "m.h5"), "[Errno 13] Permission denied: 'm.h5'"),
        (MemoryError(), "MemoryError"),
        (MemoryError("Unable to allocate 3 TiB"), "Unable to allocate 3 TiB"),
    ],
)
def test_a_failure_is_one_line(call, work, monkeypatch, error, line):
    def fail(path):
        raise error

    monkeypatch.setattr(maps, "read_map", fail)
    assert call("stats", work / "m.h5") == (1, "", f"offbragg: {line}\n")


def test_a_reader_that_goes_away_is_no_fuss(call, work, monkeypatch):
    def fail(path):
        raise BrokenPipeError

    monkeypatch.setattr(maps, "read_map", fail)
    assert call("stats", work / "m.h5") == (1, "", "")


def test_faults_of_our_own_are_not_hidden(work, monkeypatch):
    # A bug must be seen as one: only errors about input become a line.
    def fail(path):
        raise AttributeError("a bug")

    monkeypatch.setattr(maps, "read_map", fail)
    with pytest.raises(AttributeError):
        run(["stats", str(work / "m.h5")])


# --- 4 streams -----------------------------------------------------------


def test_json_stands_alone_on_stdout(call, work):
    whole = call("info", work / "m.h5", "--json").json
    assert whole["command"] == "info"
    assert whole["outputs"] == {}
    told = call("info", work / "m.h5", "--json", "--verbose").json
    assert told["result"] == whole["result"]


def test_verbose_goes_to_stderr(call, work, tmp_path):
    arguments = ("fit", work / "m.h5", work / "s.pdb", "--model", "liquid-like",
                 "--max-evaluations", "2", "--held-out", "0")  # fmt: skip
    quiet = call(*arguments, "-o", tmp_path / "a")
    told = call(*arguments, "-o", tmp_path / "b", "--verbose")
    assert quiet.err == ""
    assert "gradient cosine" in told.err
    assert "gradient cosine" not in told.out


def test_warnings_go_to_stderr_and_results_to_stdout(call, work, tmp_path):
    made = call("simulate", work / "off1.pdb", "-o", tmp_path / "x.h5", "--like", work / "m.h5",
                "--model", "uncorrelated", "--json")  # fmt: skip
    assert "cell a differs by 1.00 %" in " ".join(made.err.split())
    assert made.json["outputs"] == {"map": str(tmp_path / "x.h5")}


def test_square_brackets_are_no_markup(call, work, tmp_path):
    folder = tmp_path / "[red]a[b]"
    folder.mkdir()
    made = call("simulate", work / "s.pdb", "-o", folder / "[b].h5", "--model", "uncorrelated",
                "--d-min", "5")  # fmt: skip
    assert made.code == 0
    assert f"map: {folder / '[b].h5'}" in made.out
    expt = json.loads((work / "images/exposed.expt").read_text())
    expt["imageset"][0]["template"] = "/data/[bold]/im[/x]_####.cbf"
    (tmp_path / "markup.expt").write_text(json.dumps(expt))
    made = call("info", tmp_path / "markup.expt")
    assert made.code == 0
    assert "[bold]/im[/x]_####.cbf" in made.out


def test_an_outcome_for_people_and_one_for_programs(capsys):
    from offbragg.cli.console import emit

    outcome = Outcome(
        {"a": float("nan"), "b": [1.5, None]}, {"map": Path("x.h5")}, "said",
        [("title", ("x", "y"), [(1.23456, None)])],
    )  # fmt: skip
    emit("info", outcome, as_json=True)
    whole = json.loads(capsys.readouterr().out)
    assert whole["result"] == {"a": None, "b": [1.5, None]}
    emit("info", outcome, as_json=False)
    text = capsys.readouterr().out
    for part in ("said", "title", "1.235", "–", "map: x.h5"):
        assert part in text


def test_the_log_of_others_is_left_alone(call, work):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    call("info", work / "m.h5")
    assert (root.handlers[:], root.level) == before


# --- 5 errors ------------------------------------------------------------


def test_seeds_are_not_negative():
    assert generator(3).integers(1 << 30) == generator(3).integers(1 << 30)
    with pytest.raises(InputError, match="--seed must be >= 0, got -1"):
        generator(-1)


@pytest.mark.parametrize(("given", "found"), [(None, "passive"), ("active", "active")])
def test_threads_that_wait_sleep_unless_told_otherwise(monkeypatch, capsys, given, found):
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["offbragg", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == found
    assert capsys.readouterr().out.startswith("Usage: offbragg")
