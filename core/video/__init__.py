"""Footage on disk: read as a stream, written all or nothing, and found true afterwards.

In reading order: media, damage, stored, timing, pixels and reader open a video; numbered, heads, images and
png are for pictures; codecs, look, encoder, display, tracks and encode write; files is the one door to both; facts and
contract check.
"""
