"""Jobs: clips computed in pieces.

By one process that resumes, or by several on many machines.

In reading order: fingerprint, job_files, layout, folder, segments, motion_pieces, motion_cache, render, plan, claims,
shard, scheduler, concat, join, run.
"""
