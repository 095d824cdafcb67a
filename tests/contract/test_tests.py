"""The tests of a folder stand alone: what several need is in tests/shared."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FOLDERS = sorted({path.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/*.py")})


def imported(path: Path) -> Iterator[str]:
    """Give the full name of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_imports_from_another(folder: str) -> None:
    names = {name for path in (TESTS / folder).rglob("*.py") for name in imported(path)}
    assert {name.split(".")[1] for name in names if name.startswith("tests.")} <= {folder, "shared"}
