"""Read, write and verify video files and image sequences.

Layers, each of which imports only those before it: `decode`, `planes`, `images`, `verify`, `encode`, `open`.
"""
