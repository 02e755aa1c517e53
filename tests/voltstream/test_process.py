"""The end of a process."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("processes")

_WITH_A_HUNG_THREAD = """
import threading
from kit.settings import Settings
from voltstream.runtime.process import run

async def main(lifespan):
    threading.Thread(target=threading.Event().wait, name="hung").start()
    if {fails}:
        raise ValueError("failed")

run("test", Settings(), main)
"""


@pytest.mark.parametrize(("fails", "code"), [(False, 0), (True, 1)])
def test_a_thread_that_does_not_end_does_not_keep_the_process(fails: bool, code: int) -> None:
    """As Faust's consumer thread was seen to, after Kafka had put its worker out of the group."""
    command = [sys.executable, "-c", _WITH_A_HUNG_THREAD.format(fails=fails)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "threads_left_behind" in line]
    assert json.loads(line)["threads"] == ["hung"]
