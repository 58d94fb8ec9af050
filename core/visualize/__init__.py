"""Plots, overlays and comparison frames.

In reading order: captions, plots, training_curves, flow_arrows, crop_overlay, side_by_side.
"""
