"""A clip with uneven timestamps, from a file to a file."""

from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
from steadyscale.core.api.video import stabilize_video
from steadyscale.core.stabilize import StabilizeSettings
from uneven_timestamps import judder

WIDTH, HEIGHT = 160, 120


def write_even_pan(path, milliseconds, speed=0.15):
    """A pan at `speed` pixels per ms over a smooth texture."""
    noise = np.random.default_rng(0).integers(0, 255, (200, 1000)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0", "crf": "8", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for time in milliseconds:
            shift = np.float32([[1, 0, -speed * time], [0, 1, 0]])
            gray = cv2.warpAffine(texture, shift, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(gray[..., None], 3, axis=2), format="rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measured_judder(path):
    with av.open(str(path)) as container:
        frames = [(f.to_ndarray(format="gray")[:HEIGHT], f.time) for f in container.decode(video=0)]
    window, inner = cv2.createHanningWindow((96, 72), cv2.CV_32F), np.s_[24:96, 32:128]
    pairs = pairwise(frames)
    moves = [
        -cv2.phaseCorrelate(a[inner].astype("f4"), b[inner].astype("f4"), window)[0][0] for (a, _), (b, _) in pairs
    ]
    return judder(np.array([time for _, time in frames]), np.append(0.0, np.cumsum(moves)))


def test_even_pan_of_a_file_with_uneven_timestamps_stays_even(tmp_path):
    write_even_pan(tmp_path / "pan.mp4", np.cumsum([0, *[20, 60] * 20]))
    stabilize_video(tmp_path / "pan.mp4", tmp_path / "out.mp4", settings=StabilizeSettings(seconds=1.0))
    before, after = (measured_judder(tmp_path / name) for name in ("pan.mp4", "out.mp4"))
    assert before < 0.1, "the source is even in time"
    assert after < before + 0.05
