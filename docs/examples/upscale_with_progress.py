"""Upscale a video, print the progress, and stop after a given time.

python upscale_with_progress.py IN OUT [SECONDS]
"""

import sys
import time

import steadyscale
from steadyscale.core import OutputSize, UpscaleSettings


def main(source: str, target: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds

    def report(progress) -> None:
        print(f"{progress.stage}: {progress.done} of {progress.total or '?'} frames {progress.message}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"not finished after {seconds:g} s; nothing was written")

    settings = UpscaleSettings(size=OutputSize(factor=2))
    print(steadyscale.upscale_video(source, target, settings=settings, progress=report))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 3600.0)
