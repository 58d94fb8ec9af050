"""One call from a source to a finished file: frames, audio, report, progress, cancel, resuming."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import pytest
import torch
from camera_simulation import make_shaken_clip
from numbered_video import make_video, numbered_frames, read_numbers
from steadyscale.core import (
    Border,
    ClipError,
    ClipInfo,
    Encoding,
    ImageClip,
    OutputSize,
    Pipeline,
    PostProcess,
    Progress,
    StabilizeSettings,
    TensorClip,
    TimeRange,
    UpscaleSettings,
    VideoClip,
    enhance_video,
    open_clip,
    stabilize_video,
    upscale_video,
    write_clip,
    write_images,
)
from steadyscale.core.video.decode import video_clip
from video_file_checks import list_files

CPU = {"device": "cpu"}
LOSSLESS = Encoding("ffv1")


class Doubling:
    """Repeats pixels."""

    scale, halo = 2, 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.repeat_interleave(2, -1).repeat_interleave(2, -2)


class Cancelled(Exception):
    """Raised by a progress callback."""


def cancel_at(stage: str, done: int):
    def callback(progress: Progress) -> None:
        if (progress.stage, progress.done) == (stage, done):
            raise Cancelled

    return callback


def frames_of(path: Path) -> torch.Tensor:
    return torch.cat(list(open_clip(path).frames()))


def change_from_first(frames: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean difference from the first reference frame, of the inner part and without the finest detail."""
    margin = frames.shape[-2] // 6
    inner = (frames - reference[:1])[..., margin:-margin, margin:-margin]
    return float(torch.nn.functional.avg_pool2d(inner, 4).abs().mean())


def count_audio(path: Path) -> int:
    with av.open(str(path)) as container:
        return len(container.streams.audio)


@pytest.fixture
def shaken_file(tmp_path: Path) -> Path:
    """24 frames of a texture under a known shake, lossless."""
    clip, _ = make_shaken_clip(24, 160, 120, pixels=5.0)
    write_clip(tmp_path / "shaken.mkv", clip.frames(), clip.info, encoding=LOSSLESS)
    return tmp_path / "shaken.mkv"


def test_every_frame_is_upscaled_in_order_with_its_audio(tmp_path: Path, clip_file: Path, weights: Path):
    report = upscale_video(clip_file, tmp_path / "out.mp4", model=weights, **CPU)
    assert read_numbers(open_clip(tmp_path / "out.mp4")) == list(range(12))
    assert count_audio(tmp_path / "out.mp4") == 1
    assert report.info == ClipInfo(128, 96, Fraction(24), 12)
    assert (report.frames_in, report.frames_out, report.command, report.device) == (12, 12, "upscale", "cpu")
    assert str(report).startswith(f"{tmp_path / 'out.mp4'}: 12 frames, 128x96 at 24 fps, in ")


def test_settings_reach_the_network(tmp_path: Path, clip_file: Path):
    settings = UpscaleSettings(size=OutputSize(size=(96, 72)), postprocess=PostProcess(strength=0.5))
    upscale_video(str(clip_file), tmp_path / "out", model=Doubling(), settings=settings, **CPU)
    [first, *_] = open_clip(tmp_path / "out").frames()
    assert first.shape == (1, 3, 72, 96)
    assert len(list_files(tmp_path / "out")) == 12


def test_deflickering_is_applied_before_grain(tmp_path: Path):
    torch.manual_seed(0)
    still = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 16), scale_factor=4, mode="bicubic").clamp(0.1, 0.9)
    noisy = TensorClip((still + 0.04 * torch.randn(10, 3, 48, 64)).clamp(0, 1))

    def flicker(deflicker: float, grain: float) -> float:
        settings = UpscaleSettings(postprocess=PostProcess(grain=grain))
        upscale_video(noisy, tmp_path / "o", model=Doubling(), settings=settings, deflicker=deflicker, bits=16, **CPU)
        return float(frames_of(tmp_path / "o").diff(dim=0).std())

    filtered = flicker(0.8, 0)
    assert filtered < 0.6 * flicker(0, 0)
    assert flicker(0.8, 1.0) > 1.5 * filtered
    with pytest.raises(ValueError, match="deflicker is 2"):
        flicker(2, 0)


def test_a_clip_in_memory_is_a_source(tmp_path: Path):
    clip = TensorClip(numbered_frames(5), Fraction(30))
    report = upscale_video(clip, tmp_path / "out.mkv", model=Doubling(), encoding=LOSSLESS, **CPU)
    assert read_numbers(open_clip(tmp_path / "out.mkv")) == [0, 1, 2, 3, 4]
    assert (report.input, report.info.fps, report.frames_in) == (None, 30, 5)


def test_a_part_of_a_file_keeps_its_part_of_the_audio(tmp_path: Path, clip_file: Path):
    clip = VideoClip(clip_file, window=TimeRange(0.25, 0.25))
    report = upscale_video(clip, tmp_path / "out.mp4", model=Doubling(), **CPU)
    assert read_numbers(open_clip(tmp_path / "out.mp4")) == [6, 7, 8, 9, 10, 11]
    assert (report.frames_out, report.input) == (6, str(clip_file))


def test_a_pipeline_is_a_source_and_its_operations_run_first(tmp_path: Path, clip_file: Path):
    from steadyscale.core.pipeline.upscale_op import UpscaleOp

    pipeline = Pipeline(VideoClip(clip_file)).then(UpscaleOp(Doubling()))
    report = upscale_video(pipeline, tmp_path / "out.mp4", model=Doubling(), **CPU)
    assert read_numbers(open_clip(tmp_path / "out.mp4")) == list(range(12))
    assert report.info.size == (256, 192)
    assert count_audio(tmp_path / "out.mp4") == 1


@pytest.mark.parametrize("write", ["upscale_video", "write_clip"])
def test_audio_that_images_do_not_keep_is_reported(
    tmp_path: Path, clip_file: Path, caplog: pytest.LogCaptureFixture, write: str
):
    def run(source: Path, target: Path) -> str:
        caplog.clear()
        if write == "write_clip":
            write_clip(target, open_clip(source).frames(), open_clip(source).info, source=source)
        else:
            upscale_video(source, target, model=Doubling(), **CPU)
        return caplog.text

    note = "1 audio track is not kept in images; write a video file to keep it"
    silent = make_video(tmp_path / "silent.mp4", 3)
    assert run(clip_file, tmp_path / "out").count(note) == 1
    assert "audio" not in run(clip_file, tmp_path / "out.mp4") + run(silent, tmp_path / "still")


@pytest.mark.parametrize("resumable", [False, True])
@pytest.mark.parametrize(("height", "matrix"), [(286, 6), (290, 1)])
def test_a_video_of_images_is_tagged_as_srgb(tmp_path: Path, height: int, matrix: int, resumable: bool):
    """The matrix is that which players assume for the height."""
    write_images(tmp_path / "in", iter([numbered_frames(2, 64, height)]))
    upscale_video(tmp_path / "in", tmp_path / "out.mp4", model=Doubling(), resumable=resumable, **CPU)
    stored = VideoClip(tmp_path / "out.mp4").stream_format
    assert (stored.primaries, stored.transfer, stored.matrix, stored.tagged) == (1, 13, matrix, True)


def test_rgb_video_without_tags_gets_no_transfer(tmp_path: Path):
    source = make_video(tmp_path / "in.mkv", 2, codec="ffv1", pixel_format="bgr0")
    upscale_video(source, tmp_path / "out.mp4", model=Doubling(), **CPU)
    stored = VideoClip(tmp_path / "out.mp4").stream_format
    assert (stored.primaries, stored.transfer, stored.matrix, stored.tagged) == (2, 2, 6, True)


def test_images_do_not_replace_their_source(tmp_path: Path):
    write_images(tmp_path / "in", iter([numbered_frames(2)]))
    for source in (tmp_path / "in", ImageClip(tmp_path / "in")):
        with pytest.raises(ClipError, match="would replace"):
            upscale_video(source, tmp_path / "in" / "frame_%06d.png", model=Doubling(), **CPU)


def test_stabilizing_stops_a_known_shake(tmp_path: Path, shaken_file: Path):
    settings = StabilizeSettings(smoothing="locked", reference=0, border=Border.MIRROR)
    report = stabilize_video(shaken_file, tmp_path / "out.mkv", settings=settings, encoding=LOSSLESS, **CPU)
    before, after = frames_of(shaken_file), frames_of(tmp_path / "out.mkv")
    assert change_from_first(after, before) < 0.2 * change_from_first(before, before)
    assert (report.command, report.frames_out, report.stats) == ("stabilize", 24, None)


def test_enhancing_stops_the_shake_at_the_new_size(tmp_path: Path, shaken_file: Path):
    settings = StabilizeSettings(smoothing="locked", reference=0, border="mirror")
    report = enhance_video(
        shaken_file, tmp_path / "out.mkv", model=Doubling(), stabilization=settings, encoding=LOSSLESS, **CPU
    )
    before = frames_of(shaken_file).repeat_interleave(2, -1).repeat_interleave(2, -2)
    after = frames_of(tmp_path / "out.mkv")
    assert change_from_first(after, before) < 0.2 * change_from_first(before, before)
    assert report.info.size == (320, 240)


def test_enhancing_refuses_another_aspect_ratio_and_writes_nothing(tmp_path: Path, clip_file: Path):
    settings = UpscaleSettings(size=OutputSize(size=(320, 200)))
    with pytest.raises(ClipError, match="320x200 has another shape than 64x48"):
        enhance_video(clip_file, tmp_path / "out.mp4", model=Doubling(), upscaling=settings, **CPU)
    assert list_files(tmp_path) == [clip_file.name]


def test_progress_counts_every_frame_of_every_stage(tmp_path: Path, clip_file: Path):
    calls: list[Progress] = []
    enhance_video(clip_file, tmp_path / "out.mp4", model=Doubling(), progress=calls.append, **CPU)
    numbers = [p for p in calls if not p.message]
    assert [p.done for p in numbers if p.stage == "measuring"] == list(range(13))
    assert [p.done for p in numbers if p.stage == "upscaling"] == list(range(13))
    assert {p.total for p in numbers} == {12}
    assert Counter(p.stage for p in numbers) == {"measuring": 13, "upscaling": 13}
    [plan, *_] = [p for p in calls if p.message]
    assert plan.message.startswith("12 frames, 64x48 to 128x96, about ")
    assert plan.stage == "upscaling"


@pytest.mark.parametrize("stage", ["measuring", "upscaling"])
def test_an_error_of_the_callback_cancels_the_call_and_leaves_nothing(tmp_path: Path, clip_file: Path, stage: str):
    (tmp_path / "out.mp4").write_bytes(b"earlier")
    with pytest.raises(Cancelled):
        enhance_video(clip_file, tmp_path / "out.mp4", model=Doubling(), progress=cancel_at(stage, 5), **CPU)
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    assert list_files(tmp_path) == ["out.mp4", clip_file.name]


@pytest.mark.parametrize("keep", ["resumable", "job"])
def test_a_cancelled_run_is_continued(tmp_path: Path, clip_file: Path, weights: Path, caplog, keep: str):
    target, folder = tmp_path / "out.mkv", tmp_path / ("kept" if keep == "job" else "out.mkv.job")
    options = {"model": weights, "encoding": LOSSLESS, "segment_seconds": 0.25, **CPU}
    enhance_video(clip_file, tmp_path / "whole.mkv", **options)
    options |= {"job": folder} if keep == "job" else {"resumable": True}
    with pytest.raises(Cancelled):
        enhance_video(clip_file, target, progress=cancel_at("upscaling", 8), **options)
    assert not target.exists()
    assert [*(folder / "parts").glob("00000-*")]
    report = enhance_video(clip_file, target, **options)
    assert "1 of 2 segments are finished" in caplog.text
    assert (report.frames_in, report.frames_out) == (12, 12)
    assert not folder.exists()
    assert torch.equal(frames_of(target), frames_of(tmp_path / "whole.mkv"))


def test_resuming_needs_files_on_both_sides(tmp_path: Path, clip_file: Path):
    with pytest.raises(ClipError, match="write a video file"):
        upscale_video(clip_file, tmp_path / "out", model=Doubling(), resumable=True, **CPU)
    with pytest.raises(ClipError, match="needs a source that is a file"):
        upscale_video(TensorClip(numbered_frames(2)), tmp_path / "o.mkv", model=Doubling(), resumable=True, **CPU)
    assert list_files(tmp_path) == [clip_file.name]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (upscale_video, ["upscale", "--model"]),
        (stabilize_video, ["stabilize"]),
        (enhance_video, ["enhance", "--model"]),
    ],
)
def test_the_report_is_that_of_the_command_line(
    tmp_path: Path, clip_file: Path, weights: Path, run_cli, command, words
):
    out = tmp_path / "out.mkv"
    model = [weights] if "--model" in words else []
    code, stdout, _ = run_cli(*words, *model, clip_file, out, "--device", "cpu", "--json")
    assert code == 0
    printed = json.loads(stdout)
    named = {"model": weights} if model else {}
    report = json.loads(json.dumps(command(clip_file, out, **named, **CPU).as_dict()))
    assert list(report) == list(printed)
    for measured in ("seconds", "peak_memory_mb"):
        assert report.pop(measured) > 0
        assert printed.pop(measured) > 0
    assert report == printed


def test_without_a_model_the_bundled_one_that_suits_the_factor_is_taken(tmp_path: Path):
    write_images(tmp_path / "small.png", iter([numbered_frames(1)]))
    for factor, size in ((None, (128, 96)), (3.0, (192, 144))):
        settings = UpscaleSettings(size=OutputSize(factor=factor))
        report = upscale_video(tmp_path / "small.png", tmp_path / "large.png", settings=settings, **CPU)
        assert report.info.size == size


def test_a_device_that_is_not_there_is_reported_before_any_work(tmp_path: Path, clip_file: Path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ClipError, match="no cuda device"):
        upscale_video(clip_file, tmp_path / "out.mp4", model=Doubling(), device="cuda")


def test_the_device_that_decodes_reaches_the_source(tmp_path: Path, clip_file: Path, monkeypatch: pytest.MonkeyPatch):
    requested = []
    monkeypatch.setattr(video_clip, "select_device", lambda _, name, *__: requested.append(name))
    upscale_video(clip_file, tmp_path / "out.mp4", model=Doubling(), hwaccel="cuda", **CPU)
    stabilize_video(clip_file, tmp_path / "out.mp4", hwaccel="vaapi", **CPU)
    enhance_video(clip_file, tmp_path / "out.mp4", model=Doubling(), hwaccel="auto", **CPU)
    assert [name for name in requested if name != "none"] == ["cuda", "vaapi", "auto"]


def test_an_unknown_device_for_decoding_is_reported_before_any_work(tmp_path: Path, clip_file: Path):
    for source in (clip_file, open_clip(clip_file)):
        with pytest.raises(ClipError, match="hwaccel 'gpu' is unknown"):
            upscale_video(source, tmp_path / "out.mp4", model=Doubling(), hwaccel="gpu", **CPU)
    assert not (tmp_path / "out.mp4").exists()


def test_the_source_is_read_twice_and_looked_at_for_bars(tmp_path: Path):
    class CountedClip:
        def __init__(self) -> None:
            self._clip = TensorClip(numbered_frames(6, 96, 64))
            self.info, self.passes = self._clip.info, 0

        def frames(self, batch: int = 1):
            self.passes += 1
            yield from self._clip.frames(batch)

    clip = CountedClip()
    enhance_video(clip, tmp_path / "out.mkv", model=Doubling(), **CPU)
    assert clip.passes == 3, "a frame to look for bars, one pass to measure, one to upscale and warp"


@pytest.mark.parametrize("command", [stabilize_video, partial(enhance_video, model="steadyscale-2x")])
def test_a_pad_that_needs_too_much_memory_is_refused_before_motion_is_measured(
    command, tmp_path: Path, clip_file: Path
):
    calls = []
    settings = StabilizeSettings(border="edge", pad=100_000)
    name = "stabilization" if isinstance(command, partial) else "settings"
    with pytest.raises(ClipError, match=r"frames of 200\d\d\dx200\d\d\d need about .* choose a size"):
        command(clip_file, tmp_path / "out.mkv", **{name: settings}, device="cpu", progress=calls.append)
    assert all(call.done == 0 for call in calls)
