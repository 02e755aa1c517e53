"""Every metric that the code makes, found in the code: `python -m voltstream.metrics_catalogue` writes docs/metrics.md.

A metric is made by a call of a class of prometheus_client or of kit/observability/loop_metrics with its name, text and
labels, or by a local function that adds a beginning to names and labels.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "metrics.md"
ROOMS: Final = ("kit", "ingest", "streams", "billing", "api", "voltstream")
_TYPES: Final = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "LoopCounter": "counter",
    "LoopHistogram": "histogram",
}
_MODULES: Final = ("prometheus_client", "kit.observability.loop_metrics")
_SERIES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
_HEAD: Final = """# Metrics

Every process serves at `/metrics` those of the services that it runs, and `process_*` and `python_*` of
prometheus_client. This page is derived from the code by `python -m voltstream.metrics_catalogue`; tests hold it equal
to the code, and to what a running platform shows. Rules and alerts are in [deploy/prometheus](../deploy/prometheus),
dashboards in [deploy/grafana](../deploy/grafana).

"""


@dataclass(frozen=True, slots=True, order=True)
class DeclaredMetric:
    """A metric as the code declares it."""

    name: str  # of the family: without _total
    type: str  # counter, gauge or histogram
    labels: tuple[str, ...]
    text: str
    module: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series."""
        return tuple(f"{self.name}{suffix}" for suffix in _SERIES[self.type])


@dataclass(frozen=True, slots=True)
class _Helper:
    """A local function that makes metrics."""

    type: str
    prefix: str
    labels: tuple[str, ...]  # before those of its caller


def declared_metrics() -> list[DeclaredMetric]:
    """By name. Raises ValueError for a metric whose name, text or labels cannot be read off the code."""
    found: list[DeclaredMetric] = []
    for path in (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))):
        text = path.read_text()
        if any(module in text for module in _MODULES):
            found += _of_module(ast.parse(text), path.relative_to(ROOT).as_posix())
    return sorted(found)


def page() -> str:
    """docs/metrics.md."""
    rows = [
        f"| `{one.series[0] if one.type == 'counter' else one.name}` | {one.type} "
        f"| {', '.join(f'`{label}`' for label in one.labels)} | {one.text} | `{one.module}` |"
        for one in declared_metrics()
    ]
    head = ["| metric | type | labels | what | made in |", "| --- | --- | --- | --- | --- |"]
    return _HEAD + "\n".join([*head, *rows, ""])


def _of_module(module: ast.Module, path: str) -> Iterator[DeclaredMetric]:
    makers = {
        name.asname or name.name: _TYPES[name.name]
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module in _MODULES
        for name in node.names
        if name.name in _TYPES
    }
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    helpers = {function: dict(_helpers(function, makers)) for function in functions}
    within = {id(inner) for function in functions for inner, _ in helpers[function].values()}
    for function in functions:
        if id(function) not in within:
            yield from _of_function(function, makers, {name: one for name, (_, one) in helpers[function].items()}, path)


def _of_function(
    function: ast.FunctionDef, makers: dict[str, str], helpers: dict[str, _Helper], path: str
) -> Iterator[DeclaredMetric]:
    known = {
        target.id: node.value
        for node in function.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in _calls(function):
        maker = call.func.id if isinstance(call.func, ast.Name) else ""
        if maker not in helpers and maker not in makers:
            continue
        name, text = _text(call.args[0]), _value(call.args[1], known)
        if maker in helpers:
            helper = helpers[maker]
            labels = (*helper.labels, *map(_text, call.args[2:]))
            yield _metric(helper.prefix + name, helper.type, labels, text, path)
            continue
        labels = _labels(call.args[2] if len(call.args) > 2 else None, known)
        yield _metric(name, makers[maker], labels, text, path)
        for keyword in call.keywords:
            if keyword.arg == "count_name":
                yield _metric(_text(keyword.value), "counter", labels, f"{text}: how many", path)


def _calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    """Its calls, but for those of functions within it."""
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Call):
            yield node
        waiting += ast.iter_child_nodes(node)


def _helpers(
    function: ast.FunctionDef, makers: dict[str, str]
) -> Iterator[tuple[str, tuple[ast.FunctionDef, _Helper]]]:
    for inner in (node for node in function.body if isinstance(node, ast.FunctionDef)):
        last = inner.body[-1]
        call = last.value if isinstance(last, ast.Return) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in makers:
            name, _, labels = call.args
            if isinstance(name, ast.JoinedStr) and isinstance(labels, ast.Tuple):
                own = tuple(_text(label) for label in labels.elts if not isinstance(label, ast.Starred))
                yield inner.name, (inner, _Helper(makers[call.func.id], _text(name.values[0]), own))


def _metric(name: str, type_: str, labels: tuple[str, ...], text: str, path: str) -> DeclaredMetric:
    return DeclaredMetric(name.removesuffix("_total"), type_, labels, text.replace("|", "\\|"), path)


def _labels(node: ast.expr | None, known: dict[str, ast.expr]) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        node = known.get(node.id)
    if node is None:
        return ()
    if not isinstance(node, ast.Tuple):
        raise ValueError(f"labels that are no tuple: {ast.unparse(node)}")
    return tuple(map(_text, node.elts))


def _value(node: ast.expr, known: dict[str, ast.expr]) -> str:
    """The text of a constant, of a name for one, or of an f-string of such."""
    if isinstance(node, ast.Name):
        return _value(known[node.id], known)
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
        return "".join(_value(part, known) for part in parts)
    return _text(node)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError(f"not a text: {ast.unparse(node)}")


if __name__ == "__main__":
    PAGE.write_text(page())
