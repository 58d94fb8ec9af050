"""Measure motion once, save it, and compare the crop of several smoothing times.

python reuse_motion.py IN MOTION.json
"""

import sys
from pathlib import Path

from steadyscale.core import (
    Motion,
    Trajectory,
    correction,
    estimate_motion,
    flow_model,
    load_path,
    open_clip,
    save_path,
    smooth,
)
from steadyscale.core.crop.zoom import zooms_to_fill


def main(source: str, file: Path) -> None:
    if not file.exists():
        save_path(estimate_motion(open_clip(source), flow_model()), file)
    motion = load_path(file)
    assert isinstance(motion, Motion)
    path = Trajectory.of(motion)
    for seconds in (0.5, 1.0, 2.0, 4.0):
        fix = correction(path, smooth(path, seconds=seconds))
        print(f"{seconds:g} s: frames are magnified by up to {zooms_to_fill(fix).max():.3f}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
