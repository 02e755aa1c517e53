"""Who has to be stopped before a database goes back, by the names of connections."""

import re
from pathlib import Path
from typing import Final

from voltstream import runtime
from voltstream.backups.bus import MAY_GO_ON, in_the_way
from voltstream.services import SERVICES

RUNTIME: Final = Path(runtime.__file__).parent


def test_gateways_and_bridges_may_go_on_and_no_other_service() -> None:
    assert in_the_way([f"voltstream {name} (2)" for name in MAY_GO_ON]) == []
    others = [f"voltstream {name} (2)" for name in SERVICES if name not in MAY_GO_ON]
    assert in_the_way(others) == others


def test_what_every_process_keeps_open_has_no_services_name() -> None:
    """A gateway's own connections of the audit and the settings were taken for those services."""
    names = [
        name for path in RUNTIME.glob("*.py") for name in re.findall(r'name="(voltstream [\w ]+)"', path.read_text())
    ]
    assert len(names) >= 3
    assert in_the_way([f"{name} (1)" for name in names]) == []
