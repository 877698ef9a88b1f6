"""Recorded exchanges of real providers, served again through the hallway."""
