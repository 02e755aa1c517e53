"""How far work on a backup is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Takes what is done, how much of it is, and of how much."""


def adding_up(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    """Takes what more is done; the sum is reported, 0 at once."""
    done = 0

    def add(more: int) -> None:
        nonlocal done
        done += more
        progress(what, done, total)

    add(0)
    return add
