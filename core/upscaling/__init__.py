"""Frames through a network, to any size.

In reading order: settings, tiles, memory, room, precision, compiled, resize, finish, reuse and enlarge; stage is the
whole; trial tells how fast it is, temporal takes flicker out of its result.
"""
