"""Filters that need neighboring frames."""
