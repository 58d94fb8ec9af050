"""Which regions of a frame must be computed, and reuse of results elsewhere."""
