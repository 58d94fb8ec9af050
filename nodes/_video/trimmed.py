"""A trimmed LazyVideo, for hosts that can trim (0.13 and newer)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from comfy_api.latest import Input, InputImpl, Types

from ...core.video.decode.timestamps import TimeRange

if TYPE_CHECKING:
    from .lazy_video import LazyVideo


def to_host_video(file: Path) -> Any:
    """Return a file as ComfyUI's own video object."""
    return InputImpl.VideoFromFile(str(file))


def keep_alive(result: Any, source: Input.Video) -> Any:
    """Keep `source`, whose file `result` reads, alive as long as `result`."""
    result.steadyscale_source = source
    return result


class TrimmedVideo(Input.Video):
    """A part of a video whose frames are in memory, in seconds.

    A duration of 0 means up to the end. It is cut from the lossless master of the full video.
    """

    def __init__(self, video: LazyVideo, start: float = 0.0, duration: float = 0.0) -> None:
        self._video, self._start, self._duration = video, start, duration
        self._part: LazyVideo | None = None

    def get_active_trim_window(self) -> tuple[float, float]:
        return self._start, self._duration

    def has_pending_frame_edits(self) -> bool:
        return False

    def get_dimensions(self) -> tuple[int, int]:
        return self._video.get_dimensions()

    def get_frame_rate(self) -> Fraction:
        return self._video.get_frame_rate()

    def get_duration(self) -> float:
        left = max(0.0, self._video.get_duration() - self._start)
        return min(self._duration, left) if self._duration else left

    def get_frame_count(self) -> int:
        return max(1, round(self.get_duration() * self.get_frame_rate()))

    def get_bit_depth(self) -> int:
        return self._video.get_bit_depth()

    def get_color_space(self) -> str:
        return self._video.get_color_space()

    def get_container_format(self) -> str:
        return self._video.get_container_format()

    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None, strict_duration: bool = False
    ) -> Input.Video | None:
        """Trim further; a negative start counts from the end.

        None if nothing is left, or less than `duration` with `strict_duration`.
        """
        start, length, here = start_time or 0.0, duration or 0.0, self.get_duration()
        start = max(0.0, here + start) if start < 0 else start
        if start >= here or (strict_duration and start + length > here + 1e-6):
            return None
        if self._duration:
            length = min(length or here, here - start)
        return TrimmedVideo(self._video, self._start + start, length)

    def as_cropped(self, x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> Input.Video:
        return self.render().as_cropped(x, y, width, height)

    def as_resized(self, *args: Any, **kwargs: Any) -> Input.Video:
        return self.render().as_resized(*args, **kwargs)

    def get_stream_source(self) -> str:
        """The full file, as for the host's trimmed videos; see the trim window."""
        return self._video.get_stream_source()

    def get_components(self) -> Types.VideoComponents:
        return self.render().get_components()

    def save_to(self, path: str | IO[bytes], *args: Any, **kwargs: Any) -> None:
        self.render().save_to(path, *args, **kwargs)

    def render(self) -> LazyVideo:
        """Return the part as a video of its own, cut from the lossless master."""
        if self._part is None:
            self._part = self._video.trim_master(TimeRange(self._start, self._duration))
        return self._part
