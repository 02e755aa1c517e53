"""Results of the stages, as a table and as JSON."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Comparison:
    """A limit or a rival, measured in the same run. `ratio`: the stage's value divided by this one."""

    name: str
    value: float
    ratio: float


@dataclass(slots=True)
class Result:
    """One figure. `target` has the same unit; `note` explains where the time goes."""

    stage: str
    value: float
    unit: str
    target: float | None
    higher_is_better: bool = True
    beside: list[Comparison] = field(default_factory=list)
    note: str = ""

    def compare(self, name: str, value: float) -> "Result":
        """Add a limit or a rival."""
        self.beside.append(Comparison(name, value, self.value / value if value else float("inf")))
        return self

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.higher_is_better else self.value <= self.target


def median_rate(work: Callable[[], int], repeats: int) -> float:
    """Median items per second of processor time of `work`, which returns their number, after one warm-up run."""
    rates = []
    for _ in range(repeats + 1):
        began = time.process_time()
        items = work()
        rates.append(items / (time.process_time() - began))
    return statistics.median(rates[1:])


@contextmanager
def phase(console: Console, text: str) -> Iterator[None]:
    """Show on the console what is being measured."""
    with console.status(text):
        yield


def print_table(console: Console, results: list[Result]) -> None:
    """Print the results as a table."""
    table = Table(title="voltstream benchmarks (medians; compare ratios, not absolute figures)")
    for column in ("stage", "measured", "target", "", "beside"):
        table.add_column(column, justify="right" if column in ("measured", "target") else "left")
    for result in results:
        mark = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[result.met]
        sides = "\n".join(f"{b.name}: {_short(b.value)} (x{b.ratio:.3g})" for b in result.beside)
        target = "" if result.target is None else _short(result.target)
        note = f"\n[dim]{result.note}[/]" if result.note else ""
        table.add_row(result.stage, f"{_short(result.value)} {result.unit}", target, mark, sides + note)
    console.print(table)


def write_json(path: Path, results: list[Result]) -> None:
    """Write the results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) | {"met": result.met} for result in results], indent=2) + "\n")


def _short(value: float) -> str:
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {suffix}"
    return f"{value:.3g}"
