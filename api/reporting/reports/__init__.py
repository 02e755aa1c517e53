"""Reports: made by a job, kept as documents, given as CSV, Parquet and PDF."""
