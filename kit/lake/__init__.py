"""A lake: immutable Parquet files in a folder or an object store."""
