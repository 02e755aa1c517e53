"""The money that moves: charging invoices, refunding credit notes, through payment providers."""
