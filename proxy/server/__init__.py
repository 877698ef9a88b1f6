"""Owns the street door: sockets in, `RawRequest` to the hallway, its parts out as bytes; it decides nothing."""
