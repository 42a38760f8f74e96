"""The documents: their Python runs, their commands parse, their links lead somewhere.

Every page's ```python blocks are run in order, in one namespace and an empty folder; a block right
after ``<!-- not run: needs your own data -->`` is compiled only. Fields of the disorder models and
their bounds are compared with the pages that tell of them.
"""

import dataclasses
import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import offbragg as ob
from offbragg.cli.main import build_app
from offbragg.disorder import DisorderModel, SumOfModels
from offbragg.scattering.engine import METHODS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOT_RUN = "<!-- not run: needs your own data -->"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)")
#: Pages that a command writes; it is enough that the command is there.
GENERATED = {DOCS / "accuracy.md": DOCS / "make_accuracy.py"}

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
#: Where each model's fields are told.
PAGE_OF_MODEL = {
    "BasisCovariance": "covariance",
    "Covariance": "covariance",
    "ElasticNetwork": "elastic-network",
    "Ensemble": "ensembles",
    "FreeAdps": "uncorrelated",
    "LatticeCovariance": "covariance",
    "LatticeVibrations": "lattice-vibrations",
    "LiquidLike": "liquid-like",
    "RigidBodies": "rigid-bodies",
    "RigidBody": "rigid-bodies",
    "Uncorrelated": "uncorrelated",
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[tuple[str, str, int, bool]]:
    """Language, text, number of lines before, and whether to run it, of each block of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in FENCE.finditer(text):
        before = text[: found.start()]
        runs = not before.rstrip().endswith(NOT_RUN)
        blocks.append((found[1], found[2], before.count("\n") + 1, runs))
    return blocks


def commands_of(page: Path) -> list[str]:
    """Command lines of the program in the blocks without a language, or of a shell."""
    commands = []
    for language, text, _, _ in blocks_of(page):
        if language not in ("", "sh"):
            continue
        joined = text.replace("\\\n", " ")
        commands += [line for line in joined.splitlines() if line.startswith("offbragg ")]
    return commands


PYTHON_PAGES = [page for page in PAGES if any(b[0] == "python" for b in blocks_of(page))]


# --- what runs ------------------------------------------------------------


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=name_of)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for language, text, line, runs in blocks_of(page):
        if language != "python":
            continue
        # Lines before the block, so that errors name the page's own lines.
        code = compile("\n" * line + text, str(page), "exec")
        if runs:
            exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_ones_that_the_program_knows(page):
    app = build_app()
    for command in commands_of(page):
        arguments = shlex.split(command, comments=True)[1:]
        app.parse_args(arguments, print_error=False, exit_on_error=False)


def test_blocks_are_found_and_the_marked_ones_are_not_run(tmp_path):
    # So that a page whose fences are not understood does not pass for one without code.
    page = tmp_path / "page.md"
    page.write_text(
        f"# A\n\n```python\na = 1\n```\n\n{NOT_RUN}\n\n```python\n1 / 0\n```\n\n"
        "```sh\noffbragg stats \\\n    map.h5  # a comment\n```\n",
        encoding="utf-8",
    )
    found = blocks_of(page)
    assert [(b[0], b[2], b[3]) for b in found] == [
        ("python", 3, True), ("python", 9, False), ("sh", 13, True)
    ]  # fmt: skip
    assert [shlex.split(c, comments=True) for c in commands_of(page)] == [
        ["offbragg", "stats", "map.h5"]
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_fence_is_closed_and_of_a_known_language(page):
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(blocks_of(page))
    assert {b[0] for b in blocks_of(page)} <= {"", "python", "sh"}


# --- what is said -----------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_repository_lead_to_files(page):
    outside = ("http://", "https://", "mailto:")
    # Brackets and parentheses in formulas and code are no links.
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in LINK.findall(text):
        if target.startswith(outside):
            continue
        path = (page.parent / target.split("#")[0]).resolve()
        assert path.exists() or GENERATED.get(path, path).exists(), f"{page.name}: {target}"


def model_classes() -> list[type[DisorderModel]]:
    exported = [getattr(ob, name) for name in ob.__all__]  # imported when they are asked for
    found = [x for x in exported if inspect.isclass(x) and issubclass(x, DisorderModel)]
    return sorted(found, key=lambda model: model.__name__)


def test_every_exported_model_has_a_page_and_a_row_in_the_table():
    assert [model.__name__ for model in model_classes()] == sorted(PAGE_OF_MODEL)
    table = (DOCS / "models" / "README.md").read_text(encoding="utf-8")
    for name, page in PAGE_OF_MODEL.items():
        assert re.search(rf"^\|.*`{name}`.*\({page}\.md\)", table, re.MULTILINE), name


@pytest.mark.parametrize("model", model_classes(), ids=lambda model: model.__name__)
def test_every_field_of_a_model_is_on_its_page(model):
    text = (DOCS / "models" / f"{PAGE_OF_MODEL[model.__name__]}.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(model):
        assert f"`{field.name}`" in text, field.name


MODELS_WITH_BOUNDS = [
    ob.LiquidLike(0.4, 7.0),
    ob.ElasticNetwork(),
    ob.LatticeVibrations((2, 2, 2), level="atomic", internal_spring_constants=[1.0]),
    ob.RigidBody(translation=0.1, libration=0.01, screw=np.zeros((3, 3))),
    ob.RigidBodies([[0]], np.eye(6)),
    ob.Covariance(np.eye(2)),
    ob.Covariance(factor=np.eye(2)),
    ob.BasisCovariance(np.eye(2), [1.0, 1.0]),
]


@pytest.mark.parametrize("model", MODELS_WITH_BOUNDS, ids=lambda model: type(model).__name__)
def test_bounds_and_units_are_those_of_the_code(model):
    # A row of the page's table: | `name` | unit | bounds | …, bounds "any" or "low – high".
    text = (DOCS / "models" / f"{PAGE_OF_MODEL[type(model).__name__]}.md").read_text(
        encoding="utf-8"
    )
    for name, parameter in model.refinable.items():
        row = re.search(rf"^\| `{name}` \| ([^|]*) \| ([^|]*) \|", text, re.MULTILINE)
        assert row, f"{name} has no row"
        assert row[1].strip() == parameter.unit
        if np.isinf(parameter.lower) and np.isinf(parameter.upper):
            assert row[2].strip().startswith("any")
        else:
            low, high = (float(x) for x in row[2].strip().split(" – "))
            assert (low, high) == (parameter.lower, parameter.upper)


def test_a_sum_of_models_has_its_place_in_the_overview():
    fields = [field.name for field in dataclasses.fields(SumOfModels)]
    assert fields == ["models"]
    assert "`a + b`" in (DOCS / "models" / "README.md").read_text(encoding="utf-8")


def test_every_method_of_the_engine_is_explained():
    text = (DOCS / "engine.md").read_text(encoding="utf-8")
    for method in METHODS:
        assert f'`"{method}"`' in text, method
