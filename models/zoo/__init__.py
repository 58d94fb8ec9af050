"""Named weights, bundled and downloadable."""
