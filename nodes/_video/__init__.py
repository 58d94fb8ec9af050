"""Streaming VIDEO inputs and outputs."""
