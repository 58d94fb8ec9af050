"""Pass 1: estimate the camera motion between neighboring frames.

In reading order: gray_frame, correspondences, farneback, klt and flow measure point motion; homography,
background_prior and subpixel fit the camera motion; stillness recognizes a camera at rest; estimate processes a clip,
pose_graph finds its wrong steps; readout_time and consistency use the result.
"""
