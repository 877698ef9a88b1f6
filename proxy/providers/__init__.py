"""Owns the shelf of providers: one file per wire format, each with `create(settings) -> Provider`."""
