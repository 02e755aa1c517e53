"""Laws of the decision about a draft, over arbitrary sequences of revisions: what becomes of the documents."""

from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from billing.documents import NOT_OWED, WAITING, CdrStatus, ChargeAmount, ChargeDraft, ChargeReason, StoredCdr
from billing.invoicing.decision import CdrChange, ChargeState, Decision, DocumentChange, PastDecision, decide
from billing.invoicing.rules import InvoicingRules
from tests.billing.invoices_made import draft
from tests.billing.running import NOW

STATUSES = (
    *(CdrStatus.INVOICED, CdrStatus.INVOICED, CdrStatus.INVOICED, CdrStatus.HELD, CdrStatus.DRIFT, CdrStatus.REVIEW),
    *(CdrStatus.VOID, CdrStatus.NOTHING_OWED),
)


@dataclass
class Books:
    """One subject's records, as the poster would keep them."""

    cdr: StoredCdr | None = None
    invoiced: int | None = None  # micro-units incl. VAT of the valid invoice
    invoice_id: UUID | None = None
    partly_credited: bool = False
    decision: PastDecision | None = None

    @property
    def state(self) -> ChargeState:
        invoiced = None if self.invoiced is None else ("EUR", self.invoiced, self.invoiced)
        return ChargeState(self.cdr, self.invoice_id, None, invoiced, self.partly_credited, self.decision)

    def apply(self, wanted: ChargeDraft, decision: Decision) -> None:
        """What the poster does."""
        if decision.change is CdrChange.NOTHING:
            return
        if decision.change is not CdrChange.NEW_VERSION:
            assert self.cdr is not None
            self.cdr = msgspec.structs.replace(self.cdr, revision=wanted.revision)
            return
        self.cdr = stored(wanted, decision)
        if decision.documents is not DocumentChange.NOTHING:
            self.invoiced = self.invoice_id = None
            self.partly_credited = False
        if decision.documents is DocumentChange.INVOICE:
            self.issue()

    def issue(self) -> None:
        """An invoice of the current CDR."""
        assert self.cdr is not None
        self.invoiced, self.invoice_id = self.cdr.incl_micros, uuid4()


def stored(wanted: ChargeDraft, decision: Decision) -> StoredCdr:
    amount = wanted.amount
    return StoredCdr(
        id=uuid4(),
        version=decision.version,
        revision=wanted.revision,
        status=decision.status,
        tariff_version=wanted.tariff_version,
        time_zone=wanted.time_zone,
        consumption=wanted.consumption,
        reasons=decision.reasons,
        settling_since=decision.settling_since,
        decision_id=None,
        currency=None if amount is None else amount.currency,
        excl_micros=None if amount is None else amount.excl_micros,
        incl_micros=None if amount is None else amount.incl_micros,
    )


@st.composite
def drafts(draw: st.DrawFn) -> ChargeDraft:
    """A revision of one session; few amounts, so that they come again."""
    status = draw(st.sampled_from(STATUSES))
    amount = ChargeAmount("EUR", (), *[draw(st.integers(1, 4)) * 1_000_000] * 2)
    reasons = ("silent",) if status in WAITING else ()
    return draft(amount, status=status, reasons=reasons, revision=draw(st.integers(1, 8)))


RULES = st.sampled_from([InvoicingRules(), InvoicingRules(settle_s=60, settle_max_s=100)])


@given(st.lists(drafts(), max_size=12), RULES)
def test_the_valid_invoice_follows_the_last_good_revision_and_no_doubt_touches_it(
    revisions: list[ChargeDraft], rules: InvoicingRules
) -> None:
    books, now = Books(), NOW
    for count, wanted in enumerate(revisions, 1):
        now += timedelta(seconds=10)
        before = replace(books)
        decision = decide(wanted, books.state, now, rules)
        books.apply(wanted, decision)
        newer = before.cdr is None or wanted.revision > before.cdr.revision
        assert (decision.change is CdrChange.NOTHING) == (not newer)
        if not newer or wanted.status in WAITING or decision.status is CdrStatus.SETTLING:
            assert books.invoiced == before.invoiced, "nothing is issued or credited"
        elif wanted.status in NOT_OWED:
            assert books.invoiced is None
        else:
            assert wanted.amount is not None
            assert books.invoiced == wanted.amount.incl_micros
        if decision.status is CdrStatus.SETTLING and decision.change is CdrChange.NEW_VERSION:
            assert decision.due_at is not None
            assert decision.settling_since is not None
            assert now <= decision.due_at <= decision.settling_since + timedelta(seconds=100)
        assert books.cdr is not None
        assert books.cdr.revision == max(one.revision for one in revisions[:count])


@given(st.lists(drafts(), min_size=1, max_size=12), st.booleans(), RULES)
def test_after_a_person_s_decision_nothing_is_issued_or_credited_without_another(
    revisions: list[ChargeDraft], corrected: bool, rules: InvoicingRules
) -> None:
    """The first revision is decided on: corrected to another amount, or approved."""
    first, *later = [msgspec.structs.replace(one, revision=n) for n, one in enumerate(revisions, 1)]
    held = Decision(CdrChange.NEW_VERSION, 1, CdrStatus.HELD)
    result = stored(first, Decision(CdrChange.NEW_VERSION, 2, CdrStatus.INVOICED))
    if corrected:
        result = msgspec.structs.replace(result, excl_micros=77, incl_micros=77)
    books = Books(result, decision=PastDecision(result.id, stored(first, held), corrected))
    books.issue()
    invoice_id, invoiced = books.invoice_id, books.invoiced
    for wanted in later:
        decision = decide(wanted, books.state, NOW, rules)
        books.apply(wanted, decision)
        assert (books.invoice_id, books.invoiced) == (invoice_id, invoiced)
        assert books.cdr is not None
        if books.cdr.status is not CdrStatus.INVOICED:
            assert books.cdr.status in WAITING
            assert ChargeReason.DECIDED_BEFORE in books.cdr.reasons
        elif books.cdr.id != result.id:
            assert books.cdr.incl_micros == invoiced, "it comes to what is requested"


@given(st.lists(drafts(), min_size=1, max_size=12), RULES)
def test_after_a_credit_of_a_part_nothing_is_issued_without_a_person(
    revisions: list[ChargeDraft], rules: InvoicingRules
) -> None:
    first, *later = [msgspec.structs.replace(one, revision=n) for n, one in enumerate(revisions, 1)]
    books = Books(stored(first, Decision(CdrChange.NEW_VERSION, 1, CdrStatus.INVOICED)), partly_credited=True)
    books.issue()
    invoice_id = books.invoice_id
    for wanted in later:
        decision = decide(wanted, books.state, NOW, rules)
        books.apply(wanted, decision)
        assert books.invoice_id == invoice_id
        assert books.cdr is not None
        assert books.cdr.status in (*WAITING, CdrStatus.INVOICED)


@given(drafts(), drafts(), RULES)
def test_what_is_cancelled_stays_cancelled(first: ChargeDraft, second: ChargeDraft, rules: InvoicingRules) -> None:
    books = Books(stored(first, Decision(CdrChange.NEW_VERSION, 1, CdrStatus.CANCELLED)))
    decision = decide(msgspec.structs.replace(second, revision=first.revision + 1), books.state, NOW, rules)
    assert (decision.status, decision.documents) == (CdrStatus.CANCELLED, DocumentChange.NOTHING)
