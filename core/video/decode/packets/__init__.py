"""Packets of a video file, and the timestamps that they state.

In reading order: demux, ebml, step_back, repair, leading, joins, frame_rate, packet_scan.
"""
