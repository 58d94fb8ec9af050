"""Fit the camera motion to the motion of points.

In reading order: homography, background_prior, subpixel, stillness, pose_graph, mesh_residuals.
"""
