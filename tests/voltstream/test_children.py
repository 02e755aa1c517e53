"""Laws of child processes: none outlives its supervisor, and one that dies is started again."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from kit.clock import ManualClock, SystemClock
from tests.voltstream.platform import ENOUGH_S, ROOT
from tests.waiting import eventually
from voltstream.errors import ChildFailed
from voltstream.runtime import children
from voltstream.runtime.children import Child, environment_of
from voltstream.runtime.process import Lifespan
from voltstream.settings import load_settings

pytestmark = pytest.mark.usefixtures("processes")

_UNTIL_THE_END = "import sys; sys.stdin.read()"  # of its supervisor
# Ready, with its process id for a port. Every start is recorded in the file `started`.
_SERVICE = """
import json, os, sys
open("started", "a").write(".")
print(json.dumps({"service": "it", "url": f"http://127.0.0.1:{os.getpid()}"}), flush=True)
sys.stdin.read()
"""
_PAUSE_FIRST_S, _PAUSE_CEILING_S = 0.01, 0.04

Program = Callable[[str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Have children run this program instead of `python -m voltstream`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(children, "_PAUSE_FIRST_S", _PAUSE_FIRST_S)
    monkeypatch.setattr(children, "_PAUSE_CEILING_S", _PAUSE_CEILING_S)

    def write(code: str) -> None:
        (tmp_path / "voltstream.py").write_text(code)

    return write


def _child(name: str = "it", *arguments: str, clock: ManualClock | None = None) -> Child:
    return Child(name, arguments, dict(os.environ), clock or ManualClock())


def _process_id(child: Child) -> int:
    assert child.url is not None
    return int(child.url.rpartition(":")[2])


def _deaths(logs: list[Any]) -> list[Any]:
    return [log for log in logs if log["event"] == "child_died"]


@pytest.mark.parametrize("turns", range(8))
async def test_one_that_is_stopped_while_it_is_being_made_ends(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def creating(*command: str, **options: Any) -> asyncio.subprocess.Process:
        made.append(await create(*command[:1], "-c", _UNTIL_THE_END, **options))
        for _ in range(3):
            await asyncio.sleep(0)  # it is there, and nobody knows yet
        return made[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", creating)
    child = Child("it", (), {}, SystemClock())
    async with asyncio.timeout(ENOUGH_S), child.running(Lifespan()):
        for _ in range(turns):
            await asyncio.sleep(0)
    assert len(made) == (turns > 0)
    assert all(process.returncode is not None for process in made)


async def test_a_child_is_ready_once_it_says_where_it_is(program: Program) -> None:
    program("print('not JSON', flush=True); print('[]', flush=True)" + _SERVICE)
    child = _child()
    with capture_logs() as logs:
        async with child.running(Lifespan()):
            await child.wait_ready()
            assert psutil.pid_exists(_process_id(child))
    assert child.url is None
    assert [log["line"] for log in logs if log["event"] == "child_output"] == ["not JSON", "[]"]


async def test_a_child_that_dies_is_started_again_after_pauses_that_double_up_to_a_ceiling(program: Program) -> None:
    program("import sys; sys.exit('broken')")
    child = _child()
    with capture_logs() as logs:
        async with child.running(Lifespan()):
            await eventually(lambda: child.restarts >= 5, ENOUGH_S)
    deaths = _deaths(logs)[:5]
    assert [death["again_in_s"] for death in deaths] == [0.01, 0.02, 0.04, 0.04, 0.04]
    assert {(death["code"], death["last_output"].split(" / ")[-1]) for death in deaths} == {(1, "broken")}


@pytest.mark.parametrize(("lived_s", "pauses_s"), [(59.0, [0.01, 0.02]), (60.0, [0.01, 0.01])])
async def test_the_pause_is_short_again_after_a_long_life(
    lived_s: float, pauses_s: list[float], program: Program
) -> None:
    program(_SERVICE)
    clock = ManualClock()
    child = _child(clock=clock)
    with capture_logs() as logs:
        async with child.running(Lifespan()):
            for number in range(2):
                await child.wait_ready()
                clock.advance(lived_s)
                os.kill(_process_id(child), signal.SIGKILL)
                await eventually(lambda: child.restarts > number, ENOUGH_S)  # noqa: B023  # it ends within the turn
            await child.wait_ready()
    assert [death["again_in_s"] for death in _deaths(logs)] == pauses_s
    assert {death["code"] for death in _deaths(logs)} == {-signal.SIGKILL}


async def test_a_child_that_refuses_its_settings_ends_everything_with_its_last_lines(
    program: Program, tmp_path: Path
) -> None:
    program("import sys; open('started', 'a').write('.'); print('set VOLTSTREAM_X', file=sys.stderr); sys.exit(2)")
    lifespan, child = Lifespan(), _child("relay")
    async with asyncio.timeout(ENOUGH_S), child.running(lifespan):
        with pytest.raises(ChildFailed, match=r"^relay: set VOLTSTREAM_X$"):
            await child.wait_ready()
        with pytest.raises(ChildFailed, match=r"^relay: set VOLTSTREAM_X$"):
            await lifespan.wait()
    assert (tmp_path / "started").read_text() == "."


async def test_a_child_that_was_ready_and_cannot_read_a_secret_now_is_started_until_it_can(
    program: Program, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    program(
        _SERVICE.replace("import json, os, sys", "import json, os, sys\nif not os.path.exists('secret'): sys.exit(2)")
    )
    lifespan, child = Lifespan(), _child()
    async with asyncio.timeout(ENOUGH_S), child.running(lifespan):
        await child.wait_ready()
        secret.unlink()
        os.kill(_process_id(child), signal.SIGKILL)
        await eventually(lambda: child.restarts >= 3, ENOUGH_S)
        assert not lifespan.stopping
        secret.write_text("hush")
        await child.wait_ready()


async def test_a_child_that_does_not_become_ready_is_given_up_with_its_last_lines(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "READY_S_MAX", 0.01)
    program("import sys; print('waiting for Kafka', file=sys.stderr, flush=True); sys.stdin.read()")
    child = _child("bridge")
    async with asyncio.timeout(ENOUGH_S), child.running(Lifespan()):
        await eventually(lambda: child.last_lines == "waiting for Kafka", ENOUGH_S)
        with pytest.raises(ChildFailed, match=r"^bridge is not ready after 0 s: waiting for Kafka$"):
            await child.wait_ready()


async def test_the_last_five_lines_are_kept_and_an_endless_one_is_dropped(
    program: Program, capfd: pytest.CaptureFixture[str]
) -> None:
    program("import sys\nfor line in ['x' * (2 << 20), *'abcdefg']: print(line, file=sys.stderr)" + _SERVICE)
    child = _child()
    async with child.running(Lifespan()):
        await child.wait_ready()
        await eventually(lambda: child.last_lines.endswith("g"), ENOUGH_S)
        assert child.last_lines == "c / d / e / f / g"
    assert capfd.readouterr().err.endswith("a\nb\nc\nd\ne\nf\ng\n")


async def test_a_child_that_does_not_end_in_time_is_killed(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "STOP_S_MAX", 0.1)
    program("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + _SERVICE)
    child = _child()
    with capture_logs() as logs:
        async with asyncio.timeout(ENOUGH_S), child.running(Lifespan()):
            await child.wait_ready()
            process = psutil.Process(_process_id(child))
    assert not process.is_running()
    assert [log["child"] for log in logs if log["event"] == "child_killed"] == ["it"]


async def test_children_stop_one_after_the_other_the_last_one_first(program: Program, tmp_path: Path) -> None:
    program("""
import json, signal, sys, time
def note(what):
    with open("order", "a") as order:
        order.write(f"{what} {sys.argv[1]}\\n")
def stop(*_):
    note("begins")
    note("ends")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print(json.dumps({"url": "http://x"}), flush=True)
sys.stdin.read()
""")
    async with asyncio.timeout(ENOUGH_S), AsyncExitStack() as stack:
        lifespan = Lifespan()
        for name in ("relay", "worker", "bridge"):
            child = await stack.enter_async_context(_child(name, name).running(lifespan))
            await child.wait_ready()
    assert (tmp_path / "order").read_text().splitlines() == [
        f"{what} {name}" for name in ("bridge", "worker", "relay") for what in ("begins", "ends")
    ]


async def test_a_stopped_child_is_not_started_again(program: Program, tmp_path: Path) -> None:
    program(_SERVICE)
    child = _child()
    async with asyncio.timeout(ENOUGH_S), child.running(Lifespan()):
        await child.wait_ready()
        await child.stop()
    assert (child.restarts, (tmp_path / "started").read_text()) == (0, ".")


async def test_a_child_of_a_killed_supervisor_ends_by_itself(program: Program, tmp_path: Path) -> None:
    """By what every service does: it stops with its stdin, which is its supervisor's."""
    program(f"""
import asyncio, sys
sys.path[0] = {str(ROOT)!r}
from voltstream.runtime.process import Lifespan
async def main():
    lifespan = Lifespan()
    lifespan.stop_with_stdin()
    print('{{"url": "http://x"}}', flush=True)
    await lifespan.wait()
asyncio.run(main())
""")
    supervisor = """
import asyncio, os, sys
sys.path[0] = sys.argv[1]
from kit.clock import SystemClock
from voltstream.runtime.children import Child
from voltstream.runtime.process import Lifespan
async def main():
    async with Child("it", (), dict(os.environ), SystemClock()).running(Lifespan()) as child:
        await child.wait_ready()
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", supervisor, str(ROOT), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    await process.communicate()
    await eventually(lambda: not child.is_running(), ENOUGH_S)


def test_a_childs_settings_are_its_supervisors_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLTSTREAM_PARTITIONS", "7")
    monkeypatch.setenv("voltstream_log_level", "debug")
    monkeypatch.setenv("PATH_OF_ANOTHER", "/x")
    settings = load_settings(port=1234, redis_url="redis://:secret@h", rabbitmq_url="amqp://u:p@h", kafka_url="a:1,b:2")
    monkeypatch.setenv("VOLTSTREAM_BILLING_URL", "x")  # comes after the settings were made
    environment = environment_of(settings)
    assert environment["PATH_OF_ANOTHER"] == "/x"
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert (settings.partitions, settings.log_level) == (7, "debug")
