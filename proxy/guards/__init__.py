"""Owns the shelf of detectors: one file each, named as policy names it. Guards find; policy decides."""
