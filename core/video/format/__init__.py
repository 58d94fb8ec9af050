"""How video frames are stored: pixel formats, color tags, orientation, chroma."""
