"""Files keep depth, levels, range and the place of chroma: closed-form values, both conversions, ten generations."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yuv_frames
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.pipeline.device_frames import device_frames
from steadyscale.core.runtime.device.accelerator import accelerator_for
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import CODECS, Encoding
from steadyscale.core.video.encode.device_planes import PlaneDownloader
from steadyscale.core.video.encode.output_format import OutputFormat
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.format.chroma_location import CENTER, LEFT, LOCATION_NAMES, TOP_LEFT
from video_file_checks import PATCH_COLORS

KR, KB = 0.2126, 0.0722
FORMATS = ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv444p16le", "yuv420p16le"]


def codes_of(rgb, bits: int, full: bool) -> tuple[float, float, float]:
    """ITU-R BT.709 and BT.2100, not rounded."""
    red, green, blue = rgb
    y = KR * red + (1 - KR - KB) * green + KB * blue
    u, v = (blue - y) / (2 - 2 * KB), (red - y) / (2 - 2 * KR)
    if full:
        top = 2**bits - 1
        return top * y, top * u + 2 ** (bits - 1), top * v + 2 ** (bits - 1)
    unit = 2 ** (bits - 8)
    return (219 * y + 16) * unit, (224 * u + 128) * unit, (224 * v + 128) * unit


def write_flat(path: Path, pixel_format: str, colors, full: bool, codec: str = "ffv1", **tags: str) -> None:
    """A file of one frame per color, each of one color."""
    bits = yuv_frames.bit_depth(pixel_format)
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream(codec, rate=24, options=tags)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 2 if full else 1
        for number, rgb in enumerate(colors):
            frame = av.VideoFrame(64, 64, pixel_format)
            for plane, code in zip(frame.planes, codes_of(rgb, bits, full), strict=True):
                dtype = np.dtype("<u2" if bits > 8 else np.uint8)
                np.frombuffer(memoryview(plane), dtype)[:] = min(round(code), 2**bits - 1)
            frame.pts = number
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))


def read_codes(path: Path) -> list[dict[str, np.ndarray]]:
    with av.open(str(path)) as container:
        return [yuv_frames.read_codes(frame) for frame in container.decode(video=0)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_patches_have_their_closed_form_values(pixel_format: str, full: bool, tmp_path: Path):
    """Read on the CPU and for a device, and written again."""
    bits = yuv_frames.bit_depth(pixel_format)
    write_flat(tmp_path / "in.mkv", pixel_format, PATCH_COLORS, full)
    clip = VideoClip(tmp_path / "in.mkv")
    assert (clip.bit_depth, clip.stream_format.full_range) == (bits, full)
    frames = torch.cat(list(clip.frames()))
    expected = torch.tensor(PATCH_COLORS, dtype=torch.float32)[:, :, None, None]
    code = 1 / (219 * 2 ** (bits - 8))
    # A rounded chroma code is off by half a code, which is up to a code of blue; 8 bits are rounded to RGB too.
    assert (frames - expected).abs().max() < (3.1 if bits == 8 else 1.2) * code
    white = frames[PATCH_COLORS.index((1, 1, 1))]
    assert (white - 1).abs().max() < 1e-6
    on_device = torch.cat(
        [*device_frames(clip.native_frames(), clip.stream_format, accelerator_for(torch.device("cpu")))]
    )
    assert (on_device - frames).abs().max() <= (1.5 / 255 if bits == 8 else 0.5 * code)
    encoding = Encoding("ffv1", pixel_format=pixel_format)
    write_video(tmp_path / "out.mkv", clip.frames(), clip.info, encoding=encoding, source=tmp_path / "in.mkv")
    for before, after in zip(read_codes(tmp_path / "in.mkv"), read_codes(tmp_path / "out.mkv"), strict=True):
        for name, values in before.items():
            # Chroma of full range ends at half a code.
            assert np.abs(values - after[name]).max() <= (1 if bits == 8 or full else 0), name


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_both_writers_agree_with_the_closed_form(pixel_format: str, full: bool, tmp_path: Path):
    bits = yuv_frames.bit_depth(pixel_format)
    write_flat(tmp_path / "in.mkv", pixel_format, PATCH_COLORS[:1], full)
    source = VideoClip(tmp_path / "in.mkv").stream_format
    encoding, info = Encoding("ffv1", pixel_format=pixel_format), ClipInfo(64, 64, Fraction(24))
    for number, rgb in enumerate(PATCH_COLORS):
        frame = torch.tensor(rgb, dtype=torch.float32)[None, :, None, None].expand(1, 3, 64, 64)
        out = tmp_path / f"{number}.mkv"
        write_video(out, iter([frame]), info, encoding=encoding, source=tmp_path / "in.mkv")
        output_format = OutputFormat.of(frame, CODECS["ffv1"], encoding, source, out)
        downloader = PlaneDownloader(output_format, torch.device("cpu"), out)
        (on_device,) = [*downloader.exchange(frame), *downloader.finish()]
        (written,) = read_codes(out)
        for name, code in zip("YUV", codes_of(rgb, bits, full), strict=True):
            code = min(code, 2**bits - 1)
            limit = 1 if bits == 8 and not full else 0.5 + 2e-2  # of 16 bits, float32 has few bits left
            assert np.abs(written[name] - code).max() <= limit
            assert np.abs(yuv_frames.read_codes(on_device)[name] - code).max() <= 0.5 + 2e-2


@pytest.mark.parametrize("pixel_format", ["yuva444p10le", "yuva420p10le", "gbrap10le", "gbrap12le", "rgba64le"])
def test_opaque_alpha_is_opaque(pixel_format: str, tmp_path: Path):
    with av.open(str(tmp_path / "in.mkv"), "w") as sink:
        stream = sink.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
        frame = av.VideoFrame(64, 64, pixel_format)
        for plane in frame.planes:
            np.frombuffer(memoryview(plane), np.uint16)[:] = 2 ** yuv_frames.bit_depth(pixel_format) - 1
        sink.mux([*stream.encode(frame), *stream.encode(None)])
    clip = VideoClip(tmp_path / "in.mkv")
    assert (next(clip.frames())[0, 3] - 1).abs().max() < 1e-6
    write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=tmp_path / "in.mkv")  # H.264 has no alpha
    assert VideoClip(tmp_path / "out.mp4").bit_depth == 10


def chroma_edge(bits: int) -> torch.Tensor:
    """A frame in gray but for a soft red blob, whose center of mass is known."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = torch.exp(-((x - 30) ** 2 + (y - 33) ** 2) / 50)
    return torch.stack([0.5 + 0.2 * blob, 0.5 - 0.06 * blob, torch.full_like(blob, 0.5)])[None]


def blob_center(frame: torch.Tensor) -> tuple[float, float]:
    weight = (frame[0] - frame[1]).double().clamp(min=0.02) - 0.02
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("h264", "yuv420p", ".mp4"),
        ("h264", "yuv422p", ".mp4"),
        ("hevc", "yuv420p10le", ".mp4"),
        ("hevc", "yuv422p10le", ".mp4"),
        ("ffv1", "yuv420p", ".mkv"),
        ("ffv1", "yuv420p10le", ".mkv"),
        ("vp9", "yuv420p", ".webm"),
        ("prores", "yuv422p10le", ".mov"),
        ("av1", "yuv420p10le", ".mp4"),
    ],
)
def test_chroma_does_not_move_in_ten_generations(codec: str, pixel_format: str, suffix: str, tmp_path: Path):
    encoding = Encoding(codec, pixel_format=pixel_format, crf=None if codec in ("prores", "ffv1") else 1)
    frames, source, info = chroma_edge(8), None, ClipInfo(64, 64, Fraction(24))
    before = blob_center(frames[0])
    for number in range(10):
        out = tmp_path / f"{number}{suffix}"
        write_video(out, iter([frames]), info, encoding=encoding, source=source)
        frames, source = next(VideoClip(out).frames()), out
    after = blob_center(frames[0])
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) < 0.1, "half a luma pixel each time, before"


@pytest.mark.parametrize("location", [LEFT, CENTER, TOP_LEFT])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_location_of_the_source_is_kept_and_tagged(codec: str, location: int, tmp_path: Path):
    write_flat(
        tmp_path / "in.mp4",
        "yuv420p",
        [(1, 0, 0)] * 5,
        False,
        codec,
        chroma_sample_location=LOCATION_NAMES[location],
    )
    clip = VideoClip(tmp_path / "in.mp4")
    assert clip.stream_format.chroma_location == location
    write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=tmp_path / "in.mp4")
    assert VideoClip(tmp_path / "out.mp4").stream_format.chroma_location == location


def write_tracks(path: Path, tracks) -> None:
    """Video tracks of (size, is default); the gray of track k is 40 + 40 k."""
    with av.open(str(path), "w") as sink:
        streams = []
        for size, is_default in tracks:
            stream = sink.add_stream("ffv1", rate=24)
            stream.width, stream.height, stream.pix_fmt = size, size, "gray"
            stream.disposition = av.stream.Disposition.default if is_default else av.stream.Disposition(0)
            streams.append(stream)
        for number in range(3):
            for index, stream in enumerate(streams):
                frame = av.VideoFrame.from_ndarray(
                    np.full((stream.height, stream.width), 40 + 40 * index, np.uint8), "gray"
                )
                frame.pts = number
                sink.mux(stream.encode(frame))
        for stream in streams:
            sink.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("tracks", "chosen"),
    [
        ([(32, False), (64, True)], 1),
        ([(64, True), (32, False)], 0),
        ([(32, True), (64, False)], 0),
        ([(32, True), (64, True)], 1),
        ([(64, True), (64, True)], 0),
    ],
)
def test_the_default_track_is_read_else_the_largest(tracks, chosen: int, tmp_path: Path, caplog):
    path = tmp_path / "tracks.mkv"
    write_tracks(path, tracks)
    clip = VideoClip(path)
    assert clip.info.width == tracks[chosen][0]
    assert abs(float(next(clip.frames()).mean()) * 255 - (40 + 40 * chosen)) < 0.6
    write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=path)  # verifies with the same track
    assert sum("2 video tracks" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv422p10le", "yuv420p"])
def test_full_range_becomes_limited_in_prores(pixel_format: str, is_native: bool, tmp_path: Path, caplog):
    """ProRes cannot say that a file has the full range; its quantization moves codes of a flat area by 2 at most."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mov"
    colors = PATCH_COLORS[::3]
    write_flat(source, pixel_format, colors, full=True)
    clip = VideoClip(source)
    frames = clip.native_frames() if is_native else clip.frames()
    write_video(target, frames, clip.info, encoding=Encoding("prores"), source=source)
    assert caplog.text.count("the full range of the source is converted") == 1
    assert not VideoClip(target).stream_format.full_range
    for rgb, codes in zip(colors, read_codes(target), strict=True):
        for name, code in zip("YUV", codes_of(rgb, 10, full=False), strict=True):
            assert np.abs(codes[name] - code).max() <= (3 if pixel_format == "yuv422p10le" else 5)


@pytest.mark.parametrize(("width", "height"), [(128, 16), (66, 24), (24, 256)])
def test_sizes_on_which_svt_av1_waits_forever_are_refused(width: int, height: int, tmp_path: Path):
    frames = torch.zeros(1, 3, height, width)
    with pytest.raises(ClipError, match=rf"SVT-AV1 cannot encode {width}x{height}.* 26 or more"):
        write_video(
            tmp_path / "out.mp4", iter([frames]), ClipInfo(width, height, Fraction(24)), encoding=Encoding("av1")
        )
    assert not (tmp_path / "out.mp4").exists()


def test_ffv1_keeps_the_pixel_format_of_its_source(tmp_path: Path):
    write_flat(tmp_path / "in.mkv", "yuv420p", PATCH_COLORS[:3], full=False)
    clip = VideoClip(tmp_path / "in.mkv")
    write_video(tmp_path / "out.mkv", clip.native_frames(), clip.info, encoding=Encoding("ffv1"), source=clip.path)
    assert VideoClip(tmp_path / "out.mkv").stream_format.pixel_format == "yuv420p"
    for before, after in zip(read_codes(clip.path), read_codes(tmp_path / "out.mkv"), strict=True):
        assert all(np.array_equal(before[name], after[name]) for name in "YUV")
