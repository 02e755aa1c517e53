"""No euro is used twice: what was paid, refunded and set off, summed again from plain rows."""

from collections import defaultdict
from uuid import UUID

from tests.billing.running import RunningBilling


def check_set_offs(billing: RunningBilling) -> None:
    """Of every invoice: what covers it beyond what it requests is owed by its credit notes, each at most what it
    credits. Of every credit note: refunds and set-offs are at most what it owes, and its status says whether that is
    all. So what payers paid, less what they got back, has paid for invoices or is still owed to them."""
    documents = {row["id"]: row for row in billing.documents()}
    paid: dict[UUID, int] = defaultdict(int)
    moving: dict[UUID, int] = defaultdict(int)
    onto: dict[UUID, int] = defaultdict(int)
    for row in billing.rows("SELECT * FROM billing.payment WHERE status <> 'failed'"):
        moving[row["invoice_id"]] += row["amount_minor"]
        if row["status"] == "succeeded":
            paid[row["invoice_id"]] += row["amount_minor"]
    for row in billing.rows("SELECT * FROM billing.set_off"):
        note, invoice = documents[row["credit_note_id"]], documents[row["invoice_id"]]
        assert (note["kind"], invoice["kind"]) == ("credit_note", "invoice")
        assert note["currency"] == invoice["currency"]
        onto[row["invoice_id"]] += row["amount_minor"]
        onto[row["credit_note_id"]] -= row["amount_minor"]
    consumed = owed = 0
    for id_, one in documents.items():
        assert one["set_off_minor"] == onto[id_]
        if one["kind"] == "credit_note":
            continue
        notes = [note for note in documents.values() if note["credits"] == id_]
        requested = one["payable_minor"] + sum(note["payable_minor"] for note in notes)
        covered = paid[id_] + onto[id_]
        assert requested >= 0
        consumed += min(requested, covered)
        excess = max(covered - requested, 0)
        for note in sorted(notes, key=lambda note: (note["year"], note["sequence"]), reverse=True):
            refundable = min(excess, -note["payable_minor"])
            excess -= refundable
            used = paid[note["id"]] - onto[note["id"]]
            assert moving[note["id"]] - onto[note["id"]] <= refundable, (note, "is used for more than it owes")
            expected = "settled" if not refundable else "paid" if used == refundable else "open"
            assert note["status"] == expected, note
            owed += refundable - used
        assert excess == 0, (one, "is covered twice")
        if one["status"] in ("open", "paid"):
            assert one["status"] == ("open" if covered < requested else "paid"), one
    charged = sum(paid[id_] for id_, one in documents.items() if one["kind"] == "invoice")
    refunded = sum(paid[id_] for id_, one in documents.items() if one["kind"] == "credit_note")
    assert charged - refunded == consumed + owed
