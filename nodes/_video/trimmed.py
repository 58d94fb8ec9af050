"""A part of a video that has not run, for hosts that can trim (0.13 and newer); it makes nothing run either."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from typing import Any

from comfy_api.latest import Input, InputImpl, Types


def finished(video: Input.Video) -> Any:
    """A video of ours as ComfyUI's own object, which can do all that its version can. It runs for that."""
    return InputImpl.VideoFromFile(video.get_stream_source())


def kept(result: Any, video: Input.Video) -> Any:
    """What a host made of our video, which now stays as long: its file would go with it."""
    result.steadyscale_source = video
    return result


class Trimmed(Input.Video):
    """A part of a video, in seconds; a length of 0 has no end. The host cuts it, from the file of the whole."""

    def __init__(self, whole: Input.Video, start: float = 0.0, length: float = 0.0) -> None:
        self._whole, self._start, self._length = whole, start, length

    def get_active_trim_window(self) -> tuple[float, float]:
        return self._start, self._length

    def has_pending_frame_edits(self) -> bool:
        return False

    def get_dimensions(self) -> tuple[int, int]:
        return self._whole.get_dimensions()

    def get_frame_rate(self) -> Fraction:
        return self._whole.get_frame_rate()

    def get_duration(self) -> float:
        left = max(0.0, self._whole.get_duration() - self._start)
        return min(self._length, left) if self._length else left

    def get_frame_count(self) -> int:
        return max(1, round(self.get_duration() * self.get_frame_rate()))

    def get_bit_depth(self) -> int:
        return self._whole.get_bit_depth()

    def get_color_space(self) -> str:
        return self._whole.get_color_space()

    def get_container_format(self) -> str:
        return self._whole.get_container_format()

    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None, strict_duration: bool = False
    ) -> Input.Video | None:
        """A negative start counts from the end; None where nothing, or with `strict_duration` too little, is left."""
        start, length, here = start_time or 0.0, duration or 0.0, self.get_duration()
        start = max(0.0, here + start) if start < 0 else start
        if start >= here or (strict_duration and start + length > here + 1e-6):
            return None
        if self._length:
            length = min(length or here, here - start)
        return Trimmed(self._whole, self._start + start, length)

    def as_cropped(self, x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> Input.Video:
        return kept(self._cut().as_cropped(x, y, width, height), self._whole)

    def as_resized(self, *settings: Any, **named: Any) -> Input.Video:
        return kept(self._cut().as_resized(*settings, **named), self._whole)

    def get_stream_source(self) -> str:
        """The whole file, as the host's own trimmed videos give it; `get_active_trim_window` says which part."""
        return self._whole.get_stream_source()

    def get_components(self) -> Types.VideoComponents:
        return self._cut().get_components()

    def save_to(self, path: str | BytesIO, *settings: Any, **named: Any) -> None:
        self._cut().save_to(path, *settings, **named)

    def _cut(self) -> Any:
        return finished(self._whole).as_trimmed(self._start, self._length, strict_duration=False)
