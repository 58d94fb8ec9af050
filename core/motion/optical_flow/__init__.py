"""Motion of points between two frames: dense optical flow and feature tracks.

In reading order: gray_frame, correspondences, farneback, klt, flow, consistency.
"""
