"""The learned smoother of camera paths."""
