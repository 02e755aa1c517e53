"""Tariffs: versions that are never edited, whom they are for, and the rule that moves them with demand."""
