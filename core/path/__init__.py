"""Camera paths as numbers, without pixels: motions, trajectories, corrections.

In reading order: even_time, ray_camera, rolling_shutter, mesh, motion, trajectory, serialize.
"""
