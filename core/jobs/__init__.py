"""Runs that can be killed at any moment, and go on where they stopped.

In reading order: lock, fingerprint, manifest, folder, segments, kept_motion, join, run.
"""
