"""Learned smoothing of camera paths."""
