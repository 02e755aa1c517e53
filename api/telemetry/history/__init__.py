"""Windows and readings of a time: read from the database and the lake, as tables, in three renderings."""
