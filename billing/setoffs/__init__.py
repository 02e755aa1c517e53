"""Set-off: what credit notes owe a payer pays their next invoices."""
