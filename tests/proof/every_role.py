"""Generated requests to every operation of the platform, each sent by every role: `python -m tests.proof.every_role
--examples 100 --seed 1` prints the answers by role and status.

A request is generated from the OpenAPI document, valid or not, and then sent by all askers one after the other, so that
what one of them changed is there for the next. Ids in paths are, half of the time, those that earlier answers had.
"""

import argparse
import json
import random
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import hypothesis
import psycopg
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from kit.auth.scopes import KINDS
from kit.database.embedded import running_url
from tests.described import CHECKS, HOSTILE, cases_of, places_in, with_value
from tests.voltstream.platform import Up, readings, up, voltstream

STATION: Final = "ST-1"
_STREAM: Final = "text/event-stream"
_ANSWER_S: Final = 60.0  # against hanging
_KNOWN_MAX: Final = 50  # ids that are kept of a kind
_KNOWN_SHARE: Final = 0.5
_HOSTILE_SHARE: Final = 0.3
_READINGS: Final = 40
_START_MS: Final = 1_790_000_000_000
_EXPIRED: Final = "UPDATE access.token SET expires_at = created_at + interval '1 microsecond' WHERE id = %s"
_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = {"driver": ("--subject", "D1"), "device": ("--any-station",)}


@dataclass
class Findings:
    """What was asked and answered."""

    requests: int = 0
    operations: int = 0
    answers: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))  # status by asker
    wrong: dict[str, str] = field(default_factory=dict)  # the first of each kind, with how to repeat it

    def table(self) -> str:
        """Askers by statuses, as Markdown."""
        statuses = sorted({status for counts in self.answers.values() for status in counts})
        rows = [["asker", *map(str, statuses)], ["---"] * (len(statuses) + 1)]
        rows += [[asker, *(str(counts[status]) for status in statuses)] for asker, counts in self.answers.items()]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


class KnownIds:
    """Ids that answers had: of an operation's path by the part before the parameter, of stations by their name."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._found: dict[tuple[str, str], list[str]] = defaultdict(list)

    def note(self, path: str, document: Any) -> None:
        """Take all that an answer of the operation at `path` has."""
        for place in places_in(document):
            name = place[-1] if place else None
            value = _at(document, place)
            if isinstance(name, str) and isinstance(value, str | int) and not isinstance(value, bool):
                known = self._found[_service_of(path), name]
                if value and str(value) not in known:
                    known.append(str(value))
                    del known[:-_KNOWN_MAX]

    def put_into(self, case: schemathesis.Case[Any], path: str) -> None:
        """Exchange some parameters of the path for those that are known."""
        for name in re.findall(r"{(\w+)}", path):
            known = self._found.get((_service_of(path), name), [])
            if name == "station_id":
                known = [*known, STATION]
            if known and self._rng.random() < _KNOWN_SHARE:
                case.path_parameters = {**(case.path_parameters or {}), name: self._rng.choice(known)}


def _service_of(path: str) -> str:
    return "/".join(path.split("/")[:4])


def _at(document: Any, place: tuple[Any, ...]) -> Any:
    for name in place:
        document = document[name]
    return document


class Asking:
    """All askers of one platform."""

    def __init__(self, platform: Up, data_dir: Path, seed: int) -> None:
        self.findings = Findings()
        self._url = platform.api
        self._rng = random.Random(f"{seed} every role")
        self._known = KnownIds(self._rng)
        self._tokens: dict[str, str] = {
            **{str(kind): _issue(data_dir, "--kind", kind, *_OF_KIND.get(kind, ())) for kind in KINDS},
            "operator of a station": _issue(data_dir, "--kind", "operator", "--station", STATION),
            "device of a station": _issue(data_dir, "--kind", "device", "--station", STATION),
            "expired": _expired(data_dir),
            "unknown": "vso_" + "x" * 43,
            "nobody": "",
        }
        self._session = requests.Session()
        self._session.trust_env = False

    def __call__(self, schema: Any, path: str, method: str, examples: int, seed: int) -> None:
        """Ask for one operation."""
        self.findings.operations += 1

        @hypothesis.seed(seed)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=cases_of(schema[path][method]))
        def ask(case: schemathesis.Case[Any]) -> None:
            self._known.put_into(case, path)
            sent = self._body_of(case)
            for asker, token in self._tokens.items():
                self._ask(case, path, asker, token, sent)

        ask()

    def _body_of(self, case: schemathesis.Case[Any]) -> bytes | None:
        """The body with something hostile in it; None: as it was generated."""
        if not isinstance(case.body, dict | list) or self._rng.random() > _HOSTILE_SHARE:
            return None
        body = with_value(case.body, self._rng.choice(places_in(case.body)), self._rng.choice(HOSTILE))
        return json.dumps(body).encode()

    def _ask(self, case: schemathesis.Case[Any], path: str, asker: str, token: str, sent: bytes | None) -> None:
        request = case.as_transport_kwargs(base_url=self._url)
        request["headers"].pop("Authorization", None)  # a generated one
        if token:
            request["headers"]["Authorization"] = f"Bearer {token}"
        if sent is not None:
            request = {**request, "data": sent, "json": None, "files": None}
            request["headers"]["Content-Type"] = "application/json"
        where = f"{case.method} {path}, {asker}"
        try:
            with self._session.request(**request, stream=True, timeout=_ANSWER_S) as answer:
                self.findings.requests += 1
                self.findings.answers[asker][answer.status_code] += 1
                self._judge(case, path, where, answer)
        except requests.RequestException as error:
            self._wrong(f"{where}: no answer", repr(error))

    def _judge(self, case: schemathesis.Case[Any], path: str, where: str, answer: requests.Response) -> None:
        if answer.ok and answer.headers.get("content-type", "").startswith(_STREAM):
            return  # it has no end
        if answer.status_code >= 500:
            self._wrong(f"{where}: {answer.status_code}", f"{answer.text} {_curl(answer)}")
        try:
            case.validate_response(schemathesis.Response.from_requests(answer, verify=True), checks=CHECKS)
        except Exception as failure:  # whatever a check raises
            self._wrong(f"{where}: {answer.status_code}, not as described", f"{failure} {_curl(answer)}")
        if answer.ok and answer.content and answer.headers.get("content-type", "") == "application/json":
            self._known.note(path, answer.json())

    def _wrong(self, what: str, how: str) -> None:
        self.findings.wrong.setdefault(what, how[:2_000])


def _curl(answer: requests.Response) -> str:
    sent = answer.request
    return f"{sent.method} {(sent.url or '')[:500]} {str(sent.headers)[:300]} {str(sent.body or '')[:500]}"


def _issue(data_dir: Path, *arguments: str) -> str:
    issued = voltstream("token", "issue", *arguments, "--data-dir", str(data_dir), "--json")
    return str(json.loads(issued.stdout)["token"])


def _expired(data_dir: Path) -> str:
    issued = voltstream("token", "issue", "--kind", "admin", "--data-dir", str(data_dir), "--json")
    document, url = json.loads(issued.stdout), running_url(data_dir)
    assert url is not None
    with psycopg.connect(url) as connection:
        assert connection.execute(_EXPIRED, (document["id"],)).rowcount == 1
    return str(document["token"])


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What makes something first, so that there are ids to ask for; what removes it last."""
    order = ["post", "put", "get", "patch", "delete"]
    found = [(path, method) for path, operations in document["paths"].items() for method in operations]
    yield from sorted(found, key=lambda one: (order.index(one[1]), one[0]))


def ask_all(data_dir: Path, examples: int, seed: int) -> Findings:
    """Every operation of a platform of its own, so many generated requests of each."""
    with up(data_dir, "--no-simulator") as platform:
        assert platform.post(readings(STATION, _READINGS, _START_MS)).status_code == 202
        asking = Asking(platform, data_dir, seed)
        document = json.loads(platform.text("/openapi.json"))
        schema = schemathesis.openapi.from_dict(document)
        for number, (path, method) in enumerate(_operations(document)):
            asking(schema, path, method, examples, seed + number)
    return asking.findings


def main() -> None:
    """Print the table; the exit code is 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltstream-every-role-") as folder:
        found = ask_all(Path(folder) / "data", arguments.examples, arguments.seed)
    if arguments.json:
        print(json.dumps(vars(found)))
    else:
        print(f"{found.requests} requests to {found.operations} operations\n\n{found.table()}")
        for what, how in found.wrong.items():
            print(f"\n{what}\n    {how}")
    sys.exit(bool(found.wrong))


if __name__ == "__main__":
    main()
