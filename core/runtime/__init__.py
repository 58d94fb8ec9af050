"""Runtime utilities that all packages share.

They are buffers, threads, files written atomically and optional imports.
"""
