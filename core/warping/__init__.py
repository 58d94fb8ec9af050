"""Pass 2: pixels moved to where the correction wants them. In reading order: resample, ways, fill, move."""
