"""The crop that hides the border of corrected frames.

In reading order: crop_qp, lens_zoom, zoom, border.
"""
