"""Resumable runs: jobs that continue after their last finished segment.

In reading order: fingerprint, manifest, folder, segments, motion_cache, concat, run.
"""
