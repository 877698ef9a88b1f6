"""Owns the shelf of rows: one file per row of the scorecard, found by its name."""
