"""From a trajectory to a correction: smoothing within the limits of the crop.

In reading order: strength, smoothers/ and smooth; crossfade, follow_moves, keyframes, ray_path, mesh_bend and
mesh_smooth; stabilize combines them, transfer reuses a path on another clip.
"""
