"""Stabilize every video of a folder; run it again after a crash to continue.

python stabilize_folder.py IN_FOLDER OUT_FOLDER
"""

import sys
from pathlib import Path

import steadyscale
from steadyscale.core import Border, ClipError, StabilizeSettings


def main(source: Path, target: Path) -> int:
    target.mkdir(parents=True, exist_ok=True)
    settings = StabilizeSettings(seconds=3.0, border=Border.CROP_ADAPTIVE, max_zoom=1.2)
    failed = 0
    for clip in sorted(source.glob("*.mp4")):
        result = target / clip.name
        if result.exists():
            continue
        try:
            print(steadyscale.stabilize_video(clip, result, settings=settings, resumable=True))
        except ClipError as error:  # one line that names the file and the fix
            failed += 1
            print(error)
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
