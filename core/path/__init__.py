"""Camera paths: trajectories, smoothing, zoom and corrections, without pixels.

In reading order: motion, rolling_shutter, trajectory, strength, zoom, crop_qp, border, smoothers/ and smooth;
stabilize combines them; transfer and serialize reuse and store a path.
"""
