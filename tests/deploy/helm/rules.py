"""The list of rules for what the charts render, each a function from the documents to what is wrong."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.deploy.helm.rendered import Document

ChartRule = Callable[[Sequence[Document]], Iterable[str]]
RULES: Final[dict[str, ChartRule]] = {}


def rule(check: ChartRule) -> ChartRule:
    """Add it to RULES, by the name of the function."""
    RULES[check.__name__] = check
    return check
