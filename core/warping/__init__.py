"""Pass 2: pixels moved to where the correction wants them. In reading order: border, places, ways, resample, fill and
move; planes for pictures as they are stored; live does both passes while it films."""
