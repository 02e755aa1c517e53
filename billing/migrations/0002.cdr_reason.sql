-- Why a charge is in drift or review: what its check against the stored readings found.
ALTER TABLE billing.cdr ADD COLUMN reason text NOT NULL DEFAULT '';
