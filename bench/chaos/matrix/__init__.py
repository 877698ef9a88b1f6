"""Owns the fault matrix as data: each module has the cells of some of its rows."""
