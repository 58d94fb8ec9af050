"""Properties of the camera that its motion shows, and its gyroscope.

In reading order: robust_slope, readout_time, lens_estimate, gravity, telemetry.
"""
