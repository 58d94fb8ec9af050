"""Regions of a frame that must be computed, and results that are used again for the rest."""
