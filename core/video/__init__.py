"""Read, write and verify video files and image sequences.

Layers, each of which imports only those before it: `format`, `planes`, `decode`, `images`, `verify`, `encode`,
`open`.
"""
