"""Pass 1: from pixels to how the camera moved from each frame to the next.

In reading order: grey, correspondences, farneback, features and flow measure where points go; fit, followers and align
find the camera's motion among them; estimate reads a whole clip; readout and occlusion are drawn from the result.
"""
