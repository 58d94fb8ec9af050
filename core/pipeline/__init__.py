"""Deferred operations on a clip, which run when its frames are read.

`Pipeline` is a clip with a list of operations. operation.py has what they have in common, warp_op.py is a small one.
"""
