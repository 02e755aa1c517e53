"""What billing holds of drivers."""

from typing import Final

from kit.personal_data import PersonalData, in_standard_tables

PERSONAL_DATA: Final = (
    PersonalData(
        "customers",
        "the customer who pays for a driver; one without tax id and another driver is the driver",
        (
            "billing.customer_driver.driver_id",
            "billing.customer.name",
            "billing.customer.address",
            "billing.customer.tax_id",
            "billing.customer.email",
            "billing.customer.reference",
            "billing.customer.electronic_address",
            "billing.customer.payment_terms",
        ),
        "deleted",
        retention="once the driver is erased",
    ),
    PersonalData(
        "charges",
        "what sessions and reservations cost, as far as no document rests on them",
        ("billing.cdr.driver_id", "billing.session_driver.driver_id"),
        "removed",
        retention="billing.charge_retention",
    ),
    PersonalData(
        "documents",
        "invoices and credit notes, with the charges that they rest on, buyers and payments",
        (
            "billing.invoice.driver_id",
            "billing.invoice.reason",
            "billing.document_terms.buyer",
            "billing.document_terms.payment_terms",
            "billing.payment.reference",
            "billing.payment.error",
            "billing.collected_charge.label",
            "billing.statement_item.label",
        ),
        "stays",
        stays="the law on taxes wants documents, and what they rest on, kept as they were issued",
        retention="billing.document_retention",
        retention_unit="calendar years",
    ),
    *in_standard_tables("billing"),
)
