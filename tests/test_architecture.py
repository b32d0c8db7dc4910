"""The sizes we hold ourselves to, counted."""

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 50


def code_lines(path: Path) -> set[int]:
    """Return the numbers of the lines that hold code: not blank, not a comment, not a docstring."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    with path.open("rb") as file:
        tokens = [
            token for token in tokenize.tokenize(file.readline) if token.type not in {*skipped, tokenize.ENCODING}
        ]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(path.read_text())):
        is_text = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        if is_text and node.end_lineno is not None:
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return lines


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function with its number of code lines."""
    lines = code_lines(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield node.name, len(lines & set(range(node.lineno, node.end_lineno + 1)))


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_modules_and_functions_stay_small(path: Path) -> None:
    """No module is over 300 lines of code and no function over 50."""
    assert len(code_lines(path)) <= MAX_MODULE_LINES
    assert [found for found in functions(path) if found[1] > MAX_FUNCTION_LINES] == []


def test_every_module_of_the_eight_sentences_is_there() -> None:
    """docs/architecture.md names modules that exist, and every module of the package is named there."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    names = {
        path.stem if path.suffix == ".py" else path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")
    }
    modules = {name for name in names if not name.startswith("__")}
    layers = text.split("```")[1]
    assert {word for line in layers.splitlines() for word in line.split("  ")[0].replace("|", " ").split()} == modules


def test_what_a_user_waits_for_is_not_imported_for_help() -> None:
    """--help imports neither polars nor aiohttp nor pyarrow."""
    import subprocess
    import sys

    program = "import sys; from pipeline.cli import main; print([n for n in ('polars','aiohttp','pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
