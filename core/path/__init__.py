"""The table between the passes: where the camera went, where it should have been, and what that costs in picture.

In reading order: rolling, trajectory, axes, crop, budget, l1, kalman and smooth; plan puts them together; transfer and
path_file take a path elsewhere.
"""
