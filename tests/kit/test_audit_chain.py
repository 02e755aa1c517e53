"""The chain of the audit: what is committed is sealed once, and whatever is changed then is found and named."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.audit.chain import COLUMNS, Block, ChainCheck, Fault, Head, Mark, canonical, digest_of, hash_of, seal

NOW = datetime(2026, 3, 29, 9, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def row(entry_id: int, **other: Any) -> dict[str, Any]:
    """An entry."""
    values = dict.fromkeys(COLUMNS)
    at = NOW + timedelta(seconds=entry_id)
    return values | {"id": entry_id, "at": at, "recorded_at": at, "action": "request", "actor": "operator/A"} | other


@given(JSON, JSON)
def test_different_values_have_different_encodings(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (_typed(one) == _typed(other))


def _typed(value: Any) -> Any:
    """Such that 1, True and Decimal("1.0") differ."""
    if isinstance(value, dict):
        return {name: _typed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return type(value).__name__, str(value)


@given(st.dictionaries(st.text(max_size=5), st.integers(), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(members: dict[str, int], random: Any) -> None:
    names = list(members)
    random.shuffle(names)
    mixed = {name: members[name] for name in names}
    one, other = (digest_of(row(1, after=json.dumps(document))) for document in (members, mixed))
    assert one == other


def test_every_digit_of_a_number_matters_and_no_float_is_hashed() -> None:
    assert digest_of(row(1, after="1.0")) != digest_of(row(1, after="1.00"))
    assert digest_of(row(1, after="9007199254740993")) != digest_of(row(1, after="9007199254740992"))
    with pytest.raises(TypeError, match="float has no canonical encoding"):
        canonical(0.5)


# -- Tampering. -------------------------------------------------------------------------------------------------------


@dataclass
class Stored:
    """A chain and its entries, as a database has them."""

    blocks: list[Block]
    rows: dict[int, dict[str, Any]]

    def faults(self) -> list[Fault]:
        chain, found = ChainCheck(), list[Fault]()
        for block in self.blocks:
            ids = sorted(entry_id for entry_id in self.rows if block.after_id < entry_id <= block.last_id)
            found += chain.check(block, [self.rows[entry_id] for entry_id in ids])
        return found


@st.composite
def chains(draw: st.DrawFn) -> Stored:
    """2 to 4 blocks of 1 to 4 entries, whose ids have holes."""
    ids = iter(sorted(draw(st.sets(st.integers(1, 99), min_size=16, max_size=16))))
    head, stored = Head(), Stored([], {})
    for size in draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)):
        rows = [row(next(ids), after=draw(st.sampled_from([None, '{"a": 1, "b": [2.50]}']))) for _ in range(size)]
        block = seal(rows, head, NOW)
        stored.rows |= {one["id"]: one for one in rows}
        stored.blocks.append(block)
        head = block.head
    return stored


@given(chains())
def test_what_was_not_changed_has_no_fault(stored: Stored) -> None:
    assert stored.faults() == []


@given(chains(), st.data())
def test_any_change_of_an_entry_is_found_and_named(stored: Stored, data: st.DataObject) -> None:
    entry_id = data.draw(st.sampled_from(sorted(stored.rows)))
    name = data.draw(st.sampled_from([name for name in COLUMNS if name != "id"]))
    others: dict[str, Any] = {
        "at": NOW, "recorded_at": NOW, "token_id": UUID(int=1), "status": 200, "duration_us": 1, "requests": 2,
        "before": '{"a": 1}', "after": '{"a": 1, "b": [2.5]}',
    }  # fmt: skip
    stored.rows[entry_id] = stored.rows[entry_id] | {name: others.get(name, "other")}
    assert [(fault.entry_id, fault.what) for fault in stored.faults()] == [(entry_id, "was changed")]


@given(chains(), st.data())
def test_a_deleted_an_added_and_two_exchanged_entries_are_found_and_named(stored: Stored, data: st.DataObject) -> None:
    one, other = data.draw(st.lists(st.sampled_from(sorted(stored.rows)), min_size=2, max_size=2, unique=True))
    exchanged = stored.rows | {one: stored.rows[other] | {"id": one}, other: stored.rows[one] | {"id": other}}
    assert {fault.entry_id for fault in Stored(stored.blocks, exchanged).faults()} == {one, other}
    without = {entry_id: kept for entry_id, kept in stored.rows.items() if entry_id != one}
    assert [(fault.entry_id, fault.what) for fault in Stored(stored.blocks, without).faults()] == [(one, "was deleted")]
    last_id = stored.blocks[-1].last_id
    free = [entry_id for entry_id in range(1, last_id) if entry_id not in stored.rows]
    if free:
        added = data.draw(st.sampled_from(free))
        found = Stored(stored.blocks, {**stored.rows, added: row(added)}).faults()
        assert [(fault.entry_id, fault.what[:9]) for fault in found] == [(added, "was added")]


_HEADER = ("number", "after_id", "last_id", "entries", "oldest_at", "newest_at", "sealed_at", "entries_hash",
           "previous", "hash", "entry_ids", "digests")  # fmt: skip


@given(chains(), st.data())
def test_any_change_of_a_block_is_found(stored: Stored, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(stored.blocks) - 1))
    block, name = stored.blocks[place], data.draw(st.sampled_from(_HEADER))
    value: Any = getattr(block, name)
    match value:
        case int():
            changed: Any = value + 1
        case datetime():
            changed = value + timedelta(microseconds=1)
        case bytes():
            changed = bytes([value[0] ^ 1, *value[1:]])
        case _:
            changed = (*value[:-1], value[-1] + 1)
    stored.blocks[place] = replace(block, **{name: changed})
    assert place + 1 in {fault.block for fault in stored.faults()} | {fault.block - 1 for fault in stored.faults()}


@given(chains(), st.data())
def test_a_block_that_was_removed_or_made_anew_is_found(stored: Stored, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(stored.blocks) - 2))  # the last one: see the log
    removed = [block for number, block in enumerate(stored.blocks) if number != place]
    assert Stored(removed, stored.rows).faults()
    # With its hash computed again it no longer fits the next block.
    block = replace(stored.blocks[place], sealed_at=NOW + timedelta(days=1))
    stored.blocks[place] = replace(block, hash=hash_of(block))
    assert [fault.block for fault in stored.faults()] == [place + 2]


@given(chains(), st.data())
def test_blocks_whose_entries_are_past_retention_are_checked_by_their_headers(
    stored: Stored, data: st.DataObject
) -> None:
    gone = data.draw(st.integers(1, len(stored.blocks)))
    stored.blocks[:gone] = [replace(block, entry_ids=None, digests=None) for block in stored.blocks[:gone]]
    border = stored.blocks[gone - 1].last_id
    stored.rows = {entry_id: kept for entry_id, kept in stored.rows.items() if entry_id > border}
    assert stored.faults() == []
    place = data.draw(st.integers(0, gone - 1))
    stored.blocks[place] = replace(stored.blocks[place], entries=99)
    assert (place + 1, "its header was changed") in {(fault.block, fault.what) for fault in stored.faults()}


@given(chains())
def test_only_the_oldest_blocks_can_be_past_retention(stored: Stored) -> None:
    last = stored.blocks[-1]
    stored.blocks[-1] = replace(last, entry_ids=None, digests=None)
    stored.rows = {entry_id: kept for entry_id, kept in stored.rows.items() if entry_id <= last.after_id}
    assert [fault.block for fault in stored.faults()] == [last.number]


# -- Concurrency: transactions that take ids, commit and roll back in any order, and a sealer among them. -------------


@dataclass
class Server:
    """Transactions and a sequence as PostgreSQL has them; a sealer as api/audit/sealing.py."""

    next_transaction: int = 100
    last_id: int = 0
    alive: dict[int, list[int]] = field(default_factory=dict)  # transaction -> ids that it took
    visible: dict[int, dict[str, Any]] = field(default_factory=dict)
    mark: Mark | None = None
    head: Head = field(default_factory=Head)
    stored: Stored = field(default_factory=lambda: Stored([], {}))

    def begin(self) -> None:
        self.alive[self.next_transaction] = []
        self.next_transaction += 1

    def insert(self, which: int) -> None:
        if self.alive:
            self.last_id += 1
            sorted(self.alive.items())[which % len(self.alive)][1].append(self.last_id)

    def end(self, which: int, *, commit: bool) -> None:
        if self.alive:
            ids = self.alive.pop(sorted(self.alive)[which % len(self.alive)])
            if commit:
                self.visible |= {entry_id: row(entry_id) for entry_id in ids}

    def seal(self, size: int) -> None:
        if self.mark is None:
            self.mark = Mark(self.last_id, self.next_transaction)
        if min(self.alive, default=self.next_transaction) < self.mark.transaction:
            return
        ids = sorted(entry_id for entry_id in self.visible if self.head.last_id < entry_id <= self.mark.last_id)
        self.mark = None
        while ids:
            rows, ids = [self.visible[entry_id] for entry_id in ids[:size]], ids[size:]
            block = seal(rows, self.head, NOW)
            self.stored.blocks.append(block)
            self.head = block.head


_STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "insert", "insert", "commit", "rollback", "seal"]), st.integers(0, 3)),
    max_size=60,
)


@given(_STEPS)
def test_whatever_the_order_of_commits_every_entry_is_sealed_once(steps: list[tuple[str, int]]) -> None:
    server = Server()
    for step, which in steps:
        match step:
            case "begin":
                server.begin()
            case "insert":
                server.insert(which)
            case "seal":
                server.seal(which + 1)
            case _:
                server.end(which, commit=step == "commit")
    while server.alive:
        server.end(0, commit=True)
    for _ in range(2):  # the first may still be that of an old mark
        server.seal(3)
    server.stored.rows = server.visible
    assert server.stored.faults() == []
    sealed = [entry_id for block in server.stored.blocks for entry_id in block.entry_ids or ()]
    assert sealed == sorted(server.visible)


def test_decimals_are_written_out() -> None:
    assert canonical(Decimal("2.50")) == b"d2.50;"
