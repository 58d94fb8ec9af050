"""Runtime utilities that all packages share.

They are device/, threads/, files/, messages, memory, and dependencies that are optional or annotated incompletely.
"""
