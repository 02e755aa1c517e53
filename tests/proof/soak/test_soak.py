"""A minute of good and hostile clients: nothing of the good ones is lost, nothing is answered with an error of ours,
and both ledgers are closed. What is flat is for `python -m tests.proof.soak`, which takes ten."""

import math
from pathlib import Path

from tests.proof.soak.good_clients import LAG
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


def test_what_rises_is_not_flat_unless_the_machine_became_slower() -> None:
    for name, bound in FLAT.items():
        for busier in (1.0, 3.0):
            lag = [0.0, 2.0, 2.0 * busier]
            most = 100.0 * bound.times * (busier if name.endswith("_ms") else 1.0) + bound.more
            for last, rises in ((most, False), (math.nextafter(most, math.inf), True), (math.nan, True)):
                flat = {one: [0.0, 100.0, 100.0] for one in FLAT}
                measured = {**flat, f"{LAG}_p95_ms": lag, name: [0.0, 100.0, last]}
                assert bool(Soaked(1, 1, measured, {}, {}, {}, 0, 0, []).not_flat()) == rises
