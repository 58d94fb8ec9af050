"""Jobs: clips computed in pieces.

By one process that resumes, or by several on many machines.

In reading order: state/, segments, motion_pieces, motion_cache, render, plan, claims, shard, scheduler, concat, join,
run.
"""
