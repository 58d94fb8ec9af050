"""Hardware decoding gives the frames of software decoding, whatever the device does."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.error import ExternalError, InvalidDataError
from av.video.reformatter import VideoReformatter
from corrupt_videos import FRAME_COUNT, GOP_SIZE, corrupt_packet, make_moving_video
from numbered_video import make_video, read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.video.decode import hwaccel
from steadyscale.core.video.decode.corruption_report import OnDamage
from steadyscale.core.video.decode.hwaccel import HWACCELS, HardwareDecoding
from steadyscale.core.video.decode.semi_planar import SEMI_PLANAR, to_semi_planar
from steadyscale.core.video.decode.timestamps import TimeRange
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.open import open_clip

Edit = Callable[[av.VideoFrame, int], av.VideoFrame]


class FakeContext:
    """A decoder of a device: NV12 or P010 frames, and whatever `edit` does to frame n.

    It decodes in software.
    """

    is_hwaccel = True

    def __init__(self, context: Any, edit: Edit) -> None:
        self._context, self._edit, self.count = context, edit, 0
        self._reformatter = VideoReformatter()

    def decode(self, packet: Any) -> list[av.VideoFrame]:
        frames = []
        for frame in self._context.decode(packet):
            frames.append(self._edit(to_semi_planar(frame, self._reformatter), self.count))
            self.count += 1
        return frames


class FakeDevice:
    """A GPU that decodes: `contexts` are the decoders that were opened."""

    def __init__(self) -> None:
        self.contexts: list[FakeContext] = []
        self.edit: Edit = lambda frame, _: frame

    def fail_at(self, number: int, error: Exception, from_pass: int = 0) -> None:
        """Raise an error at this frame, in passes from this one on; pass 0 is the check of the first frame."""

        def edit(frame: av.VideoFrame, count: int) -> av.VideoFrame:
            if count == number and len(self.contexts) > from_pass:
                raise error
            return frame

        self.edit = edit


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    fake, open_context = FakeDevice(), hwaccel._open_context

    def open_fake(stream: av.VideoStream, name: str) -> FakeContext:
        context = FakeContext(open_context(stream, name), lambda frame, count: fake.edit(frame, count))
        fake.contexts.append(context)
        return context

    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: [*HWACCELS])
    monkeypatch.setattr(hwaccel, "HWAccel", lambda *_, **__: None)  # PyAV then opens FFmpeg's software decoder
    monkeypatch.setattr(hwaccel, "_open_context", open_fake)
    return fake


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    with caplog.at_level(logging.INFO, "steadyscale"):
        yield lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


FILES = ["h264.mp4", "h264.mkv", "full_range.mp4", "hevc.mp4", "hevc10.mkv", "vp9.webm", "uneven.mkv", "rotated.mp4"]


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name = getattr(request, "param", "h264.mp4")
    path, kind = tmp_path / name, name.split(".")[0]
    if kind == "hevc10":
        return make_video(path, 30, codec="libx265", pixel_format="yuv420p10le")
    if kind == "full_range":
        return make_video(path, 30, pixel_format="yuvj420p")
    if kind == "uneven":
        return make_video(path, 30, size=(66, 50), starts=[1000 * n + 200 * (n % 3) for n in range(30)])
    if kind == "rotated":
        return make_video(path, 30, rotation=90)
    return make_moving_video(path, kind)


def native_samples(clip: VideoClip) -> list[tuple[Any, ...]]:
    frames = [frame for frames in clip.native_frames() for frame in frames]
    return [(f.format.name, f.pts, f.time_base, f.colorspace, f.color_range, f.to_ndarray().tobytes()) for f in frames]


def assert_same_clips(found: VideoClip, expected: VideoClip) -> None:
    assert (found.info, found.stream_format) == (expected.info, expected.stream_format)
    assert native_samples(found) == native_samples(expected)
    assert torch.equal(torch.cat(list(found.frames(5))), torch.cat(list(expected.frames(5))))
    assert all(map(np.array_equal, found.luma_frames(32), expected.luma_frames(32)))
    assert found.damage.to_table() == expected.damage.to_table()


@pytest.mark.parametrize("file", FILES, indirect=True)
def test_frames_of_a_device_are_those_of_the_software_decoder(file: Path, device: FakeDevice, warnings):
    expected = VideoClip(file)
    assert expected.stream_format.pixel_format in SEMI_PLANAR
    clip = VideoClip(file, hwaccel="cuda")
    assert_same_clips(clip, expected)
    frame_count = sum(1 for _ in expected.native_frames())
    counts = [context.count for context in device.contexts]
    assert counts[1:] == [frame_count] * 3, "each pass was decoded by the device"
    assert 1 <= counts[0] < frame_count, "the check stops after the first frame"
    assert warnings() == []


@pytest.mark.parametrize("file", ["h264.mp4", "hevc.mp4", "vp9.webm"], indirect=True)
def test_a_window_has_the_same_frames_and_stays_on_the_device(file: Path, device: FakeDevice, warnings):
    window = TimeRange(0.9, 0.5)
    expected = VideoClip(file, window=window)
    assert_same_clips(VideoClip(file, window=window, hwaccel="cuda"), expected)
    opened = len(device.contexts)
    assert_same_clips(VideoClip(file, hwaccel="cuda").trim(window), expected)
    assert len(device.contexts) > opened + 3
    assert warnings() == []


def test_frames_from_a_number_on_are_the_same(file: Path, device: FakeDevice):
    found, expected = (VideoClip(file, hwaccel=name).frames(first=17) for name in ("cuda", "none"))
    assert torch.equal(torch.cat(list(found)), torch.cat(list(expected)))


@pytest.mark.parametrize("error", [OSError(1, "no device"), NotImplementedError("no device"), MemoryError("no device")])
def test_an_error_when_the_device_is_opened_means_software(
    file: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, warnings
):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["cuda"])
    monkeypatch.setattr(hwaccel, "HWAccel", fail)
    assert_same_clips(VideoClip(file, hwaccel="cuda"), VideoClip(file))
    assert warnings() == [f"{file}: is decoded in software (cuda: no device)"]


@pytest.mark.parametrize("error", [InvalidDataError(1, "no profile"), RuntimeError("no profile")])
def test_an_error_at_the_first_frame_means_software(file: Path, error: Exception, device: FakeDevice, warnings):
    device.fail_at(0, error)
    assert_same_clips(VideoClip(file, hwaccel="cuda"), VideoClip(file))
    assert warnings() == [f"{file}: is decoded in software (cuda: no profile)"]
    assert len(device.contexts) == 1


@pytest.mark.parametrize("on_damage", OnDamage)
@pytest.mark.parametrize("number", [1, 20, FRAME_COUNT - 1])
def test_an_error_later_continues_in_software(
    file: Path, number: int, on_damage: OnDamage, device: FakeDevice, warnings
):
    device.fail_at(number, ExternalError(1, "device lost"), from_pass=1)
    assert_same_clips(VideoClip(file, on_damage=on_damage, hwaccel="cuda"), VideoClip(file, on_damage=on_damage))
    (line,) = warnings()
    assert line.startswith(f"{file}: from frame ")
    assert line.endswith("on it is decoded in software (device lost)")
    assert len(device.contexts) == 2, "later passes do not try again"


def test_a_window_continues_in_software_at_its_frame(file: Path, device: FakeDevice, warnings):
    window = TimeRange(0.9, 0.5)
    device.fail_at(24, RuntimeError("device lost"), from_pass=1)
    assert_same_clips(VideoClip(file, window=window, hwaccel="cuda"), VideoClip(file, window=window))
    (line,) = warnings()
    assert "device lost" in line


def brighten(frame: av.VideoFrame, _: int) -> av.VideoFrame:
    np.frombuffer(memoryview(frame.planes[0]), np.uint8)[5] ^= 1
    return frame


def widen(frame: av.VideoFrame, _: int) -> av.VideoFrame:
    return frame.reformat(width=frame.width + 2)


def to_packed(frame: av.VideoFrame, _: int) -> av.VideoFrame:
    return frame.reformat(format="yuyv422")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (brighten, "its first frame is not that of the software decoder"),
        (widen, "a frame is 162x96 instead of 160x96"),
        (to_packed, "its frames are yuyv422, which is not converted to yuv420p"),
    ],
)
def test_a_device_whose_frames_differ_is_not_used(file: Path, edit: Edit, reason: str, device: FakeDevice, warnings):
    device.edit = edit
    assert_same_clips(VideoClip(file, hwaccel="cuda"), VideoClip(file))
    assert warnings() == [f"{file}: is decoded in software (cuda: {reason})"]


@pytest.mark.parametrize("file", ["h264.mp4", "h264.mkv", "hevc.mp4"], indirect=True)
def test_damage_is_reported_as_by_the_software_decoder(file: Path, device: FakeDevice, warnings):
    broken = corrupt_packet(file, 2 * GOP_SIZE)
    expected = VideoClip(broken, on_damage=OnDamage.KEEP)
    found = VideoClip(broken, on_damage=OnDamage.KEEP, hwaccel="cuda")
    assert_same_clips(found, expected)
    assert len(found.damage) > 0
    assert sum("on it is decoded in software" in line for line in warnings()) == 1
    errors = []
    for name in ("none", "cuda"):
        with pytest.raises(ClipError) as error:
            list(VideoClip(broken, hwaccel=name).frames())
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_auto_tries_the_devices_of_the_platform_and_logs_no_warning(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    tried = []

    def open_context(_: av.VideoStream, name: str) -> None:
        tried.append(name)
        raise OSError(1, f"no {name}")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["cuda", "vaapi"])
    monkeypatch.setattr(hwaccel, "_open_context", open_context)
    with caplog.at_level(logging.INFO, "steadyscale"):
        assert len(read_colors(VideoClip(file, hwaccel="auto"))) == FRAME_COUNT
    assert tried == ["cuda", "vaapi"]
    (record,) = caplog.records
    reasons = "cuda: no cuda; vaapi: no vaapi; qsv: this build of FFmpeg does not support it"
    assert record.getMessage() == f"{file}: is decoded in software ({reasons})"
    assert record.levelno == logging.INFO


def read_colors(clip: VideoClip) -> list[float]:
    return [float(frames.mean()) for frames in clip.frames()]


def test_auto_uses_the_first_device_that_works(file: Path, device: FakeDevice, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["vaapi"])
    assert_same_clips(VideoClip(file, hwaccel="auto"), VideoClip(file))
    assert len(device.contexts) == 4


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name", "reason"),
    [
        ("mpeg4", "yuv420p", "clip.mp4", "mpeg4 is decoded in software only"),
        ("libx264", "yuv444p", "clip.mp4", "frames of the format yuv444p are decoded in software only"),
        ("ffv1", "bgr0", "clip.mkv", "frames of the format bgr0 are decoded in software only"),
    ],
)
def test_codecs_and_formats_that_devices_do_not_reproduce(
    codec: str, pixel_format: str, name: str, reason: str, tmp_path: Path, device: FakeDevice, warnings
):
    file = make_video(tmp_path / name, 4, codec=codec, pixel_format=pixel_format)
    assert read_numbers(VideoClip(file, hwaccel="cuda")) == [0, 1, 2, 3]
    assert warnings() == [f"{file}: is decoded in software (cuda: {reason})"]
    assert device.contexts == []


@pytest.mark.parametrize("name", HWACCELS)
def test_on_this_machine_every_choice_gives_the_same_frames(name: str, file: Path, caplog: pytest.LogCaptureFixture):
    """With a GPU or without: the device decodes, or one line says why not."""
    with caplog.at_level(logging.INFO, "steadyscale"):
        clip = VideoClip(file, hwaccel=name)
        assert_same_clips(clip, VideoClip(file))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (0 if name == "none" else 1)
    assert all(line.startswith(f"{file}: is decoded ") for line in lines)


def test_the_context_gets_what_the_container_states(file: Path, device: FakeDevice):
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"max_pixels": "1000000"}
        context = HardwareDecoding("cuda", "yuv420p", 160, 96).make_decoder(stream)._context._context
        for name in ("extradata", "width", "height", "reorder_depth", "color_range", "colorspace", "options"):
            assert getattr(context, name) == getattr(stream.codec_context, name), name
        assert context.reorder_depth == 2, "else frames would be out of order"


def test_an_unknown_device_is_an_error(file: Path, tmp_path: Path):
    with pytest.raises(ClipError, match="hwaccel 'gpu' is unknown; choose one of none, auto, cuda"):
        open_clip(file, hwaccel="gpu")
    with pytest.raises(ClipError, match="hwaccel 'gpu' is unknown"):
        VideoClip(file, hwaccel="gpu")


def test_open_clip_passes_the_device_on(file: Path, device: FakeDevice):
    assert len(list(open_clip(file, fps=Fraction(24), hwaccel="cuda").frames())) == FRAME_COUNT
    assert [context.count for context in device.contexts][1:] == [FRAME_COUNT]
