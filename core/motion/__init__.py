"""Pass 1: estimate the camera motion between neighboring frames.

In reading order: optical_flow/ measures the motion of points, fit/ the motion of the camera, camera/ its shutter, lens
and gyroscope, transitions/ finds dissolves and fades; estimate processes a clip, bar_detection, bar_changes and
lens_view prepare its frames, held/ measures a layer or a subject instead.
"""
