"""No float touches money: there is none in rating, by a stricter look than that at all of billing/."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RATING = Path(__file__).parents[3] / "billing" / "rating"


def floats(source: str) -> Iterator[str]:
    """Where a float is written, named or made. A `/` is one too, unless it joins a path with a text."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=float()):
                yield f"line {node.lineno}: {node.value!r}"
            case ast.Name(id="float") | ast.Attribute(attr="float16" | "float32" | "float64"):
                yield f"line {node.lineno}: float"
            case ast.BinOp(op=ast.Div(), left=left, right=right) if not _joins_a_path(left, right):
                yield f"line {node.lineno}: /"
            case ast.AugAssign(op=ast.Div()):
                yield f"line {node.lineno}: /="
            case ast.Call(func=ast.Name(id="round") | ast.Attribute(attr="truediv")):
                yield f"line {node.lineno}: round or truediv"


def _joins_a_path(left: ast.expr, right: ast.expr) -> bool:
    return any(isinstance(side, ast.JoinedStr | ast.Constant) and _is_text(side) for side in (left, right))


def _is_text(side: ast.JoinedStr | ast.Constant) -> bool:
    return isinstance(side, ast.JoinedStr) or isinstance(side.value, str)


@pytest.mark.parametrize("path", sorted(RATING.rglob("*.py")), ids=lambda path: str(path.relative_to(RATING)))
def test_there_is_no_float_in_rating(path: Path) -> None:
    assert list(floats(path.read_text())) == []


@pytest.mark.parametrize("source", ["x = 1.0", "x = float(y)", "x = a / b", "x /= 3", "x = round(y)", "x: float = 1"])
def test_a_float_would_be_found(source: str) -> None:
    assert list(floats(source)) != []


@pytest.mark.parametrize("source", ["x = a // b", "p = folder / 'name'", "p = folder / f'{name}'", "x = 1"])
def test_what_is_no_float_is_not_found(source: str) -> None:
    assert list(floats(source)) == []
