"""Measure by what FFmpeg's vid.stab moves each frame of a clip.

The clip itself is not registered. vid.stab writes its motion to a file, and applies that to any video of the same
size. Applied to a still image full of texture, it shows the transform of each frame to a few hundredths of a pixel,
however hard the clip itself is to register.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import cv2
import numpy as np
from hard_clips import make_scene
from steadyscale.core import geometry

OPTIONS = "smoothing=30:optzoom=1"
FEATURES = 1500
REPROJECTION_PIXELS = 0.7


def find_vidstab() -> str | None:
    """The path of an FFmpeg that has vid.stab, or None."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return None
    filters = subprocess.run([ffmpeg, "-hide_banner", "-filters"], capture_output=True, check=False).stdout
    return ffmpeg if b"vidstabdetect" in filters else None


def vidstab_matrices(ffmpeg: str, video: Path, length: int, folder: Path) -> geometry.Matrices:
    """Stabilize a video; return what moves each frame, (N, 3, 3) from the center.

    folder: for temporary files.
    """
    motion, still, moved = folder / "motion.trf", folder / "still.mkv", folder / "moved.mkv"
    start = [ffmpeg, "-hide_banner", "-loglevel", "error", "-y", "-i"]
    subprocess.run(
        [*start, str(video), "-vf", f"vidstabdetect=result={motion}", "-f", "null", "-"], check=True, cwd=folder
    )
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        width, height = stream.width, stream.height
    texture = np.ascontiguousarray(make_scene(7)[:height, :width].clip(0, 255).astype(np.uint8))
    with av.open(str(still), "w") as sink:
        stream = sink.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(length):
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(texture, format="bgr24")))
        sink.mux(stream.encode(None))
    transform = f"vidstabtransform=input={motion}:{OPTIONS}"
    subprocess.run([*start, str(still), "-vf", transform, "-c:v", "ffv1", str(moved)], check=True, cwd=folder)
    with av.open(str(moved)) as result:
        frames = [frame.to_ndarray(format="gray") for frame in result.decode(video=0)]
    return geometry.normalize(np.stack([_register(cv2.cvtColor(texture, cv2.COLOR_BGR2GRAY), f) for f in frames]))


def _register(still: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The homography from a still image to what it was moved to."""
    sift, center = cv2.SIFT_create(FEATURES), (np.array(still.shape[::-1]) - 1) / 2
    (points, descriptors), (moved_points, moved_descriptors) = (sift.detectAndCompute(i, None) for i in (still, moved))
    pairs = cv2.BFMatcher().knnMatch(moved_descriptors, descriptors, k=2)
    good = [a for a, b in pairs if a.distance < 0.7 * b.distance]
    src = np.array([points[m.trainIdx].pt for m in good]) - center
    dst = np.array([moved_points[m.queryIdx].pt for m in good]) - center
    matrix, _ = cv2.findHomography(src, dst, cv2.USAC_MAGSAC, REPROJECTION_PIXELS, maxIters=5000, confidence=0.999)
    if matrix is None:
        raise SystemExit("a frame of vid.stab cannot be registered")
    return matrix
