"""The chain of the audit: what is committed is sealed once, and whatever is changed then is found and named."""

import itertools
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.audit.chain import COLUMNS, Block, Head, Mark, canonical, digest_of, hash_of, seal
from kit.audit.chain_check import FORGOTTEN, ChainCheck, ChainFault, RetentionRecord

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
    now: datetime = NOW
    given_id: int = 10**9  # the last that the sequence gave

    def faults(self, logged: Head | None = None) -> list[ChainFault]:
        """As api/audit/sealing.py checks them."""
        known = {logged.number: logged.hash} if logged is not None and logged.number else {}
        records = [RetentionRecord.of(one) for one in self.rows.values() if one["action"] == FORGOTTEN]
        chain = ChainCheck(filter(None, records), self.now, known)
        found = list[ChainFault]()
        for block in self.blocks:
            ids = sorted(entry_id for entry_id in self.rows if block.after_id < entry_id <= block.last_id)
            found += chain.check(block, [self.rows[entry_id] for entry_id in ids])
        found += chain.finish()
        return found + [ChainFault(0, one, "stray") for one in self.rows if not 0 < one <= self.given_id]

    @property
    def head(self) -> Head:
        """The end of the chain."""
        return self.blocks[-1].head if self.blocks else Head()

    def seal(self) -> None:
        """All that is not sealed yet."""
        ids = sorted(entry_id for entry_id in self.rows if entry_id > self.head.last_id)
        if ids:
            self.blocks.append(seal([self.rows[entry_id] for entry_id in ids], self.head, self.now))

    def add(self, entry_id: int, **values: Any) -> None:
        """An entry of now."""
        self.given_id = entry_id
        self.rows[entry_id] = row(entry_id, at=self.now, recorded_at=self.now, **values)

    def due(self, days: int, blocks_max: int) -> list[int]:
        """Places of the oldest blocks that have entries and are so old."""
        kept = [place for place, block in enumerate(self.blocks) if block.entry_ids is not None][:blocks_max]
        border = self.now - timedelta(days=days)
        return list(itertools.takewhile(lambda place: self.blocks[place].newest_at < border, kept))

    def forget(self, days: int, blocks_max: int, *, recorded: bool = True) -> None:
        """As audit.forget."""
        places = self.due(days, blocks_max)
        for place in places:
            self.blocks[place] = replace(self.blocks[place], entry_ids=None, digests=None)
        if places:
            last_id = self.blocks[places[-1]].last_id
            gone = [entry_id for entry_id in self.rows if entry_id <= last_id]
            for entry_id in gone:
                del self.rows[entry_id]
            if recorded:
                said = {"first_block": places[0] + 1, "last_block": places[-1] + 1, "entries": len(gone)}
                self.add(self.given_id + 1, action=FORGOTTEN, actor="retention", before=json.dumps(said))


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


_YEARS = st.lists(
    st.tuples(
        st.sampled_from(["entries", "seal", "forget", "clock"]),
        st.integers(1, 4),
        st.integers(-2, 900),  # days that pass meanwhile, by a clock that may step back
    ),
    min_size=1,
    max_size=40,
)


@st.composite
def histories(draw: st.DrawFn) -> Stored:
    """A chain of years in which retention deleted what it may, step by step, at times without being sealed since."""
    stored = Stored([], {}, NOW, 0)
    stored.add(1)
    for what, count, days in draw(_YEARS):
        stored.now += timedelta(days=days)
        match what:
            case "entries":
                for _ in range(count):
                    stored.add(stored.given_id + draw(st.integers(1, 2)), after=draw(st.sampled_from([None, "[1.0]"])))
            case "seal":
                stored.seal()
            case "forget":
                stored.forget(draw(st.sampled_from([360, 366, 1_500])), count)
            case _:
                pass
    if draw(st.booleans()):
        stored.seal()
    # The clock may have gone back meanwhile. Who checks has one that is right: to another, a record of retention from
    # the future excuses no deletion.
    stored.now = max(stored.now, *(one["recorded_at"] for one in stored.rows.values()))
    return stored


@given(chains() | histories())
def test_what_was_not_changed_has_no_fault(stored: Stored) -> None:
    assert stored.faults(stored.head) == []


_OTHERS: dict[str, Any] = {
    "at": NOW, "recorded_at": NOW - timedelta(days=9_000), "token_id": UUID(int=1), "status": 200, "duration_us": 1,
    "requests": 2, "before": '{"a": 1}', "after": '{"a": 1, "b": [2.5]}',
}  # fmt: skip


def _sealed(stored: Stored) -> list[int]:
    return sorted(entry_id for entry_id in stored.rows if entry_id <= stored.head.last_id)


def _tamper(stored: Stored, what: str, data: st.DataObject) -> None:
    """One change by somebody who may write the tables. Where there is nothing to change, none."""
    sealed = _sealed(stored)
    places = range(len(stored.blocks))
    match what:
        case "delete an entry" if sealed:
            del stored.rows[data.draw(st.sampled_from(sealed))]
        case "change an entry" if sealed:
            entry_id = data.draw(st.sampled_from(sealed))
            name = data.draw(st.sampled_from([name for name in COLUMNS if name != "id"]))
            stored.rows[entry_id] = stored.rows[entry_id] | {name: _OTHERS.get(name, "other")}
        case "add an entry":
            free = {0, -5, stored.given_id + 1, *range(1, stored.head.last_id)} - set(stored.rows)
            entry_id = data.draw(st.sampled_from(sorted(free)))
            stored.rows[entry_id] = row(entry_id)
        case "exchange two entries" if len(sealed) > 1:
            one, other = data.draw(st.lists(st.sampled_from(sealed), min_size=2, max_size=2, unique=True))
            stored.rows[one], stored.rows[other] = stored.rows[other] | {"id": one}, stored.rows[one] | {"id": other}
        case "delete all entries of a block" if places:
            block = stored.blocks[data.draw(st.sampled_from(places))]
            for entry_id in [one for one in sealed if block.after_id < one <= block.last_id]:
                del stored.rows[entry_id]
        case "delete all entries of blocks with their lists" if places:
            begin, end = sorted(data.draw(st.tuples(*[st.sampled_from([*places, len(places)])] * 2)))
            for place in range(begin, end):
                block = stored.blocks[place] = replace(stored.blocks[place], entry_ids=None, digests=None)
                for entry_id in [one for one in sealed if block.after_id < one <= block.last_id]:
                    stored.rows.pop(entry_id, None)
        case "let retention run without its record":
            stored.forget(0, 9, recorded=False)
        case "let retention delete what is young":
            days = data.draw(st.integers(0, 359))
            if stored.due(days, 9) != stored.due(360, 9):  # else it is lawful
                stored.forget(days, 9)
        case "delete the records of retention":
            for entry_id in [one for one, entry in stored.rows.items() if entry["action"] == FORGOTTEN]:
                del stored.rows[entry_id]
        case "change a record of retention":
            for entry_id, entry in stored.rows.items():
                if entry["action"] == FORGOTTEN:
                    said = json.loads(entry["before"])
                    # Of one that is not sealed: where it begins may follow from records that are gone.
                    names = sorted(said) if entry_id <= stored.head.last_id else ["entries", "last_block"]
                    name = data.draw(st.sampled_from(names))
                    changed = json.dumps(said | {name: said[name] + data.draw(st.sampled_from([-1, 1]))})
                    stored.rows[entry_id] = entry | {"before": changed}
                    break
        case "delete blocks" if places:
            begin, end = sorted(data.draw(st.tuples(*[st.sampled_from([*places, len(places)])] * 2)))
            gone = stored.blocks[begin:end]
            del stored.blocks[begin:end]
            with_entries = data.draw(st.booleans())
            if gone and with_entries:
                for entry_id in [one for one in sealed if gone[0].after_id < one <= gone[-1].last_id]:
                    stored.rows.pop(entry_id, None)
        case "exchange two blocks" if len(places) > 1:
            one, other = data.draw(st.lists(st.sampled_from(places), min_size=2, max_size=2, unique=True))
            stored.blocks[one], stored.blocks[other] = stored.blocks[other], stored.blocks[one]
        case "repeat a block" if places:
            stored.blocks.append(stored.blocks[data.draw(st.sampled_from(places))])
        case "change a block" if places:
            place = data.draw(st.sampled_from(places))
            block = stored.blocks[place]
            name = data.draw(st.sampled_from([one for one in _HEADER if getattr(block, one) is not None]))
            stored.blocks[place] = replace(block, **{name: _other(getattr(block, name))})
        case "make a block anew" if places:
            place = data.draw(st.sampled_from(places))
            block = replace(stored.blocks[place], sealed_at=stored.now + timedelta(days=1))
            stored.blocks[place] = replace(block, hash=hash_of(block))


_WAYS = (
    "delete an entry", "change an entry", "add an entry", "exchange two entries", "delete all entries of a block",
    "delete all entries of blocks with their lists", "let retention run without its record",
    "let retention delete what is young", "delete the records of retention", "change a record of retention",
    "delete blocks", "exchange two blocks", "repeat a block", "change a block", "make a block anew",
)  # fmt: skip


@pytest.mark.parametrize("way", _WAYS)
@given(stored=histories(), others=st.lists(st.sampled_from(_WAYS), max_size=3), data=st.data())
def test_whatever_is_deleted_changed_added_or_exchanged_is_found(
    way: str, stored: Stored, others: list[str], data: st.DataObject
) -> None:
    """Of the end of the chain by a hash that was logged."""
    logged = stored.head
    before = _content(stored)
    for what in (way, *others):
        _tamper(stored, what, data)
    assert bool(stored.faults(logged)) == (_content(stored) != before)


def _content(stored: Stored) -> Any:
    """What the chain vouches for: blocks, their entries, and what retention says that it deleted."""
    last_id = stored.blocks[-1].last_id if stored.blocks else 0
    said = {
        entry_id: entry
        for entry_id, entry in stored.rows.items()
        if entry_id <= last_id or entry["action"] == FORGOTTEN or entry_id > stored.given_id
    }
    return list(stored.blocks), {entry_id: digest_of(entry) for entry_id, entry in said.items()}


@given(histories(), st.integers(0, 359))
def test_a_record_of_retention_excuses_no_deletion_of_what_was_young(stored: Stored, days: int) -> None:
    stored.now = max(one["recorded_at"] for one in stored.rows.values())
    before = list(stored.blocks)
    stored.forget(days, 99)
    young = [new for old, new in zip(before, stored.blocks, strict=True)
             if new != old and stored.now - new.newest_at < timedelta(days=360)]  # fmt: skip
    stored.seal()
    found = {fault.block for fault in stored.faults() if "days old" in fault.what}
    assert found >= {block.number for block in young}


@given(chains(), st.data())
def test_any_change_of_an_entry_is_found_and_named(stored: Stored, data: st.DataObject) -> None:
    entry_id = data.draw(st.sampled_from(sorted(stored.rows)))
    name = data.draw(st.sampled_from([name for name in COLUMNS if name != "id"]))
    stored.rows[entry_id] = stored.rows[entry_id] | {name: _OTHERS.get(name, "other")}
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


def _other(value: Any) -> Any:
    match value:
        case int():
            return value + 1
        case datetime():
            return value + timedelta(microseconds=1)
        case bytes():
            return bytes([value[0] ^ 1, *value[1:]])
        case _:
            return (*value[:-1], value[-1] + 1)


@given(chains(), st.data())
def test_any_change_of_a_block_is_found_there(stored: Stored, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(stored.blocks) - 1))
    block, name = stored.blocks[place], data.draw(st.sampled_from(_HEADER))
    stored.blocks[place] = replace(block, **{name: _other(getattr(block, name))})
    assert place + 1 in {fault.block for fault in stored.faults()} | {fault.block - 1 for fault in stored.faults()}


def test_entries_that_were_deleted_without_a_record_are_named_by_their_block() -> None:
    """Also all of all blocks."""
    stored = Stored([], {})
    for entry_id in (1, 2, 3):
        stored.add(entry_id)
        stored.seal()
    stored.rows = {}
    stored.blocks = [replace(block, entry_ids=None, digests=None) for block in stored.blocks]
    found = [(fault.block, fault.what) for fault in stored.faults()]
    assert found == [(number, "its entries were deleted, and retention has no record of it") for number in (1, 2, 3)]


def test_of_blocks_whose_record_is_past_retention_too_the_later_records_are_enough() -> None:
    stored = Stored([], {}, NOW, 0)
    for _ in range(12):  # years; each has a block, and retention deletes one of two years before
        stored.add(stored.given_id + 1)
        stored.seal()
        stored.now += timedelta(days=366)
        stored.forget(700, 9)
    assert sum(entry["action"] == FORGOTTEN for entry in stored.rows.values()) == 2
    assert stored.faults(stored.head) == []


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
            self.mark = Mark(self.last_id, self.next_transaction)  # its own, which ends at once
            self.next_transaction += 1
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
