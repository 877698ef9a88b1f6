"""Owns nothing: Handrail, a sidecar guardrail proxy for AI support agents. Start reading at pipeline.py."""
