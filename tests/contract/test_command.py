"""What the command says of itself is what its page shows, and its answers have schemas that are published."""

import ast
import json
import re
from pathlib import Path

import click
import pytest
from jsonschema import Draft202012Validator

from appstream_auditor.main import cli
from sandbox.command import ANSWERS, PAGE, SCHEMAS, files

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("path", "content"), [pytest.param(*each, id=each[0].name) for each in files()])
def test_make_command_was_run(path: Path, content: str) -> None:
    assert path.read_text() == content, "run `make command`"


def test_every_command_is_on_the_page_and_answers_by_a_schema() -> None:
    shown = re.findall(r"^\$ appstream-auditor (\w.*) --help$", PAGE.read_text(), re.MULTILINE)
    assert shown == [*ANSWERS]
    assert commands_of(cli) == ANSWERS.keys()
    assert {path.stem for path in SCHEMAS.iterdir()} == {name.replace(" ", "-") for name in ANSWERS}


def commands_of(group: click.Group, *before: str) -> set[str]:
    """Return the commands by the words that are typed; a group has commands, and answers nothing."""
    found: set[str] = set()
    for name, command in group.commands.items():
        words = (*before, name)
        found |= commands_of(command, *words) if isinstance(command, click.Group) else {" ".join(words)}
    return found


@pytest.mark.parametrize("path", sorted(SCHEMAS.iterdir()), ids=lambda path: path.stem)
def test_schemas_are_schemas(path: Path) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_every_line_of_help_fits_80_columns() -> None:
    boxes = re.findall(r"```\n(\$ appstream-auditor [^\n]*--help\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(boxes) == 1 + len(ANSWERS)
    assert all(len(line) <= 80 for box in boxes for line in box.splitlines())


@pytest.mark.parametrize("path", sorted((ROOT / "functions").glob("*/*.py")), ids=lambda path: path.stem)
def test_no_function_imports_what_is_the_commands(path: Path) -> None:
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"appstream_auditor", "click", "rich"}
    assert "session_auditor" in imported


def test_modules_that_are_no_command_are_started_by_make() -> None:
    """`python -m` finds them with the Makefile's PYTHONPATH alone."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "tests/README.md"]
    text = "\n".join(page.read_text() for page in pages)
    assert not re.findall(r"python3? -m (?:benchmarks|sandbox|tests)\S*", text)
    named = set(re.findall(r"`(?:make bench )?OF=(\w+)", text))
    assert named == {"delays", "targets"}
    assert all((ROOT / f"benchmarks/{name}.py").is_file() for name in named)
