"""Every operation answers every role, and who has none, as its OpenAPI says, and never with a server error."""

from pathlib import Path

from tests.proof.every_role import ask_all

_EXAMPLES = 1  # of each operation, times all askers: half a minute; `python -m tests.proof.every_role` has more


def test_no_role_gets_a_server_error_or_an_answer_that_is_not_described(data_dir: Path, seed: int) -> None:
    found = ask_all(data_dir, _EXAMPLES, seed)
    print(f"{found.requests} requests\n{found.table()}")
    assert found.operations > 100
    assert not found.wrong, "\n".join(f"{what}\n    {how}" for what, how in found.wrong.items())
