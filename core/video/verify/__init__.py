"""Verify an output file against its source with an independent reader."""
