"""Splits a JSON array or object into its items where it is damaged, so that the damage costs one item and no other.

Strings are honoured: what looks like an item within a string never becomes one. Unbalanced brackets are balanced at the
place where JSON could not go on: `]` and `}` close what they match, and an object in which `{` follows a comma ended
before that comma. Time is linear in the body, one step of Python a bracket or item.
"""

import re
from typing import Final

from ingest.errors import MalformedBody, TooLarge

BRACKETS_MAX: Final = 1_500_000  # of one body, ~1 s; a reading without nested values has two
_MEMBERS_MAX: Final = 1_000  # of an event's envelope or payload: there are a handful
_BLANKS: Final = b" \t\r\n"
# Everything up to the next bracket (or comma) outside strings. Possessive: nothing is ever tried again.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_TO_BRACKET: Final = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_TO_SEPARATOR: Final = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+", re.DOTALL)
_BLANK: Final = re.compile(rb"[ \t\r\n]*+")
_OPENER_OF: Final = {ord("]"): ord("["), ord("}"): ord("{")}
_BRACKETS: Final = b"[]{}"
_QUOTE, _COMMA, _ARRAY, _OBJECT = b'",[{'


def split(body: bytes, items_max: int) -> list[bytes]:
    """The items of an array, or the members of an object, without the blanks around them.

    An item may be empty (two commas in a row) or not be JSON. Raises MalformedBody (not an array or object, without its
    end, a string without its end, or with something behind it) and TooLarge.
    """
    if sum(body.count(bracket) for bracket in _BRACKETS) > BRACKETS_MAX:
        raise TooLarge("the body has far more brackets than its readings need; send smaller batches")
    start = _BLANK.match(body).end()  # type: ignore[union-attr]  # matches the empty text too
    if body[start : start + 1] not in (b"[", b"{"):
        raise MalformedBody("the body is neither an object nor an array", start)
    scan = _Scan(body, start, items_max)
    scan.run()
    return scan.items


def damaged_member(body: bytes, name: str) -> bytes:
    """The text of a member of an object that is damaged somewhere within its members. Raises MalformedBody."""
    start = f'"{name}"'.encode()
    found = [item for item in split(body, _MEMBERS_MAX) if item.startswith(start)]
    _, colon, text = found[-1].partition(b":") if found else (b"", b"", b"")
    if not colon:
        raise MalformedBody(f"the object has no member {name}")
    return text.strip(_BLANKS)


class _Scan:
    """One pass over a body. `stack` has the open brackets, the outermost first."""

    def __init__(self, body: bytes, start: int, items_max: int) -> None:
        self.items: list[bytes] = []
        self._body = body
        self._start = start
        self._items_max = items_max
        self._end: int | None = None  # behind the first bracket that could end the whole
        self._last = len(body.rstrip(_BLANKS)) - 1
        self._stack = bytearray()
        self._open = {_ARRAY: 0, _OBJECT: 0}  # how many of each are on the stack

    def run(self) -> None:
        """Fill `items`."""
        body, at = self._body, self._start
        self._push(body[at])
        at = item = at + 1
        while True:
            between = len(self._stack) == 1
            at = (_TO_SEPARATOR if between else _TO_BRACKET).match(body, at).end()  # type: ignore[union-attr]
            if at == len(body) or body[at] == _QUOTE:
                raise self._unended()
            sign = body[at]
            if sign == _COMMA:
                self._take(item, at)
                item = at + 1
            elif sign not in _OPENER_OF:
                if sign == _OBJECT and (comma := self._missing_end(item, at)) is not None:
                    self._take(item, comma)
                    item = comma + 1
                self._push(sign)
            elif self._close(sign, at):
                if body[item:at].strip(_BLANKS) or self.items:
                    self._take(item, at)
                return
            at += 1

    def _unended(self) -> MalformedBody:
        if self._end is None:
            at = len(self._body)
            return MalformedBody(f"the body ends too early, at byte {at}; send all of it", at)
        trailing = self._body[self._end :].lstrip(_BLANKS)
        at = len(self._body) - len(trailing)
        return MalformedBody(f"the body goes on after its end, at byte {at}; send one array a request", at)

    def _take(self, start: int, end: int) -> None:
        if len(self.items) == self._items_max:
            raise TooLarge(f"a request carries at most {self._items_max} readings; send them in smaller batches")
        self.items.append(self._body[start:end].strip(_BLANKS))

    def _missing_end(self, start: int, at: int) -> int | None:
        """Close the objects that cannot go on with the `{` at `at`; the comma before it if that ended an item."""
        if self._stack[-1] != _OBJECT or self._stack[0] != _ARRAY:
            return None
        comma = at - 1
        while comma > start and self._body[comma] in _BLANKS:
            comma -= 1
        if comma <= start or self._body[comma] != _COMMA:
            return None
        while self._stack[-1] == _OBJECT:
            self._pop_to(_OBJECT)
        return comma if len(self._stack) == 1 else None

    def _push(self, opener: int) -> None:
        self._stack.append(opener)
        self._open[opener] += 1

    def _pop_to(self, opener: int) -> None:
        """Close everything down to the innermost `opener`."""
        while (top := self._stack.pop()) != opener:
            self._open[top] -= 1
        self._open[opener] -= 1

    def _close(self, closer: int, at: int) -> bool:
        """Close what the bracket matches within the item; whether it ends the whole."""
        opener, outermost = _OPENER_OF[closer], self._stack[0]
        within = self._open[opener] - (opener == outermost)
        if within:
            self._pop_to(opener)
            return False
        # Else it matches nothing, and the item is damaged here; or it is the end, even if the last item lacks its own.
        if opener == outermost and len(self._stack) == 1 and self._end is None:
            self._end = at + 1
        return opener == outermost and at == self._last
