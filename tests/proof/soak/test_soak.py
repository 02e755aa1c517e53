"""A minute of good and hostile clients: nothing of the good ones is lost, nothing is answered with an error of ours,
and both ledgers are closed. What is flat is for `python -m tests.proof.soak`, which takes ten."""

import math
from pathlib import Path

from tests.proof.soak.running import CONNECTIONS_MAX, FLAT, Soaked, soak

_SECONDS = 60.0
_OTHER_DESCRIPTORS = 300  # of files, of connections to the database and of those for health checks, in all processes


def test_hostile_clients_cost_good_ones_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    found = soak(_SECONDS, seed, tmp_path)
    print(found.table())
    assert not found.violations, "\n".join(found.violations)
    assert found.acknowledged > 0
    assert all(found.events), "live streams of good clients stood still"
    assert found.descriptors_max <= CONNECTIONS_MAX + _OTHER_DESCRIPTORS
    assert all(counts for counts in found.hostile.values())
    assert all(status not in (200, 202) for status in found.hostile["guess"]), "a token was guessed"


def test_what_rises_is_not_flat() -> None:
    flat = {name: [0.0, 100.0, 100.0] for name in FLAT}
    for name, bound in FLAT.items():
        most = 100.0 * bound.times + bound.more
        for last, rises in ((most, False), (math.nextafter(most, math.inf), True)):
            found = Soaked(1, 1, {**flat, name: [0.0, 100.0, last]}, {}, {}, {}, 0, 0, [])
            assert bool(found.not_flat()) == rises
