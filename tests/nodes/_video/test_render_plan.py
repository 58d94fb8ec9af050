"""Test plans of VIDEO inputs from other nodes: files, trims, audio, edits."""

from __future__ import annotations

import gc
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from corrupt_videos import corrupt_packet, make_moving_video
from node_calls import run_upscale
from numbered_video import numbered_frames, read_numbers
from recorded_calls import RecordedCalls
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.pipeline import estimate
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.upscaling.tile_size import estimate_activation_bytes
from steadyscale.core.video.decode.timestamps import TimeRange
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding


def test_file_that_is_not_a_video_is_refused_on_input(fake_host, tmp_path: Path):
    (tmp_path / "page.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    with pytest.raises(ClipError, match=r"page\.mp4: cannot be read as video"):
        run_upscale(fake_host, fake_host.VideoFromFile(str(tmp_path / "page.mp4")))


def test_video_in_memory_is_accepted(fake_host, clip_file: Path):
    video = run_upscale(fake_host, fake_host.VideoFromFile(io.BytesIO(clip_file.read_bytes())))
    assert read_numbers(VideoClip(video.get_stream_source())) == list(range(12))


def test_components_keep_their_rate_and_audio(fake_host, tmp_path: Path):
    tone = torch.sin(torch.arange(48_000) * 0.05)[None, None].expand(1, 2, -1) * 0.5
    images = numbered_frames(12).permute(0, 2, 3, 1)
    audio = {"waveform": tone, "sample_rate": 48_000}
    given = fake_host.VideoFromComponents(fake_host.Components(images, Fraction(30_000, 1001), audio))
    video = run_upscale(fake_host, given)
    assert video.get_frame_rate() == Fraction(30_000, 1001)
    video.save_to(str(tmp_path / "out.mp4"))
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == list(range(12))
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.audio[0]
        samples = np.concatenate([f.to_ndarray() for f in container.decode(stream)], axis=1)
    assert samples.shape[1] / 48_000 == pytest.approx(12 * 1001 / 30_000, abs=0.05), "it ends with the last frame"
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)
    assert len(fake_host.files()) == 1, "the file without audio is deleted"


def test_alpha_is_kept_or_refused(fake_host, tmp_path: Path):
    images = numbered_frames(12).permute(0, 2, 3, 1)
    alpha = torch.ones(12, 48, 64)
    alpha[3:, :24] = 0
    video = run_upscale(
        fake_host, fake_host.VideoFromComponents(fake_host.Components(images, Fraction(24), alpha=alpha))
    )
    with pytest.raises(ClipError, match="transparency, which format mp4 with codec h264 cannot keep, nor any other"):
        video.save_to(str(tmp_path / "out.mp4"))
    with pytest.raises(ClipError, match="format webm with codec av1"):
        video.save_to(str(tmp_path / "out.webm"), format="webm")
    parts = video.get_components()
    assert parts.images.shape == (12, 96, 128, 4)
    assert [float(frame[..., 3].mean()) for frame in parts.images[2:4]] == [1.0, 0.5]


def test_corrupt_frames_are_concealed_and_logged(fake_host, tmp_path: Path, caplog):
    broken = corrupt_packet(make_moving_video(tmp_path / "source.mp4"), 24, 0.5)
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(broken)))
    assert sum(1 for _ in VideoClip(video.get_stream_source()).frames()) == 48
    assert f"{broken}: 1 damaged frame: 24 concealed" in caplog.text


def test_pending_trim_is_applied(fake_host, clip_file: Path, tmp_path: Path):
    video = fake_host.VideoFromFile(str(clip_file), window=(0.125, 0.25))
    result = run_upscale(fake_host, video)
    assert result.get_frame_count() == 6
    result.save_to(str(tmp_path / "out.mp4"))
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == [3, 4, 5, 6, 7, 8]
    assert video.saved == [], "the source file was read directly"
    assert len(fake_host.files()) == 1


@pytest.mark.parametrize("window", [(0.125, 0.25), (0.1, 0.0), (0.0, 0.2), (0.26, 0.09)])
def test_trim_selects_the_same_frames_as_the_host(fake_host, clip_file: Path, tmp_path: Path, window):
    video = fake_host.VideoFromFile(str(clip_file), window=window)
    video.save_to(str(tmp_path / "host.mp4"), crf=1)
    result = run_upscale(fake_host, fake_host.VideoFromFile(io.BytesIO(clip_file.read_bytes()), window=window))
    assert read_numbers(VideoClip(result.get_stream_source())) == read_numbers(VideoClip(tmp_path / "host.mp4"))


def test_trim_with_crop_is_rendered_by_the_host(fake_host, clip_file: Path):
    video = fake_host.VideoFromFile(str(clip_file), window=(0.125, 0.25), crop=(32, 24))
    result = run_upscale(fake_host, video)
    assert (result.get_dimensions(), result.get_frame_count()) == ((64, 48), 6)
    assert video.saved[0]["crf"] <= 10, "the intermediate file is nearly lossless"


def test_pending_crop_is_applied(fake_host, clip_file: Path):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file), crop=(32, 24)))
    assert video.get_dimensions() == (64, 48)
    assert VideoClip(video.get_stream_source()).info.width == 64
    kept = fake_host.files()
    del video
    gc.collect()
    assert len(kept) == 2
    assert fake_host.files() == []


@pytest.mark.parametrize("rate", [0.0, float("nan"), float("inf")])
def test_components_with_a_rate_that_is_none_are_refused(fake_host, rate: float):
    images = numbered_frames(2).permute(0, 2, 3, 1)
    audio = {"waveform": torch.zeros(1, 2, 100), "sample_rate": 48_000}
    with pytest.raises(ClipError, match="no frame rate"):
        run_upscale(fake_host, fake_host.VideoFromComponents(fake_host.Components(images, rate, audio)))


def test_a_file_that_the_host_fails_to_read_is_one_error(fake_host, tmp_path: Path, monkeypatch):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")

    def get_dimensions(self):
        with av.open(self.file) as container:
            return container.streams.video[0].width, 48

    monkeypatch.setattr(fake_host.VideoFromFile, "has_pending_frame_edits", lambda self: get_dimensions(self)[0] > 64)
    with pytest.raises(ClipError, match="the VIDEO cannot be read"):
        run_upscale(fake_host, fake_host.VideoFromFile(str(tmp_path / "broken.mp4")))


def test_a_video_that_does_not_fit_into_memory_is_refused_by_the_node(fake_host, clip_file: Path, monkeypatch):
    monkeypatch.setattr(estimate, "free_main_memory", lambda: 16e9)
    size = {"resize_to": "size", "width": 32768, "height": 32768}
    with pytest.raises(ClipError, match="choose a size of at most"):
        run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), **size)


@pytest.mark.parametrize("is_resumable", [False, True])
def test_a_plan_is_written_with_its_source_range_and_encoding(fake_host, clip_file: Path, monkeypatch, is_resumable):
    module = fake_host.import_("_video.render_plan")
    calls, encoding, window = RecordedCalls(monkeypatch), Encoding("hevc", 30), TimeRange(0.25, 0.25)
    calls.replace("steadyscale.nodes._video.render_plan.write_video", 6)
    calls.replace("steadyscale.nodes._video.render_plan.run_resumable", "folders")
    pipeline = Pipeline(VideoClip(clip_file, window=window))
    plan = module.RenderPlan(pipeline, source=clip_file, node_names=("Upscale Frames", "Warp", "Warp"))
    assert plan.name == "SteadyScale (Upscale Frames, Warp)"
    if is_resumable:
        plan = plan.as_resumable(Path("first")).as_resumable().as_resumable(Path("second"))
        assert module.render(plan, Path("out.mp4"), encoding) == "folders"
        run = calls.one("run_resumable")
        assert run.pop("add_progress")
        assert run == {
            "pipeline": pipeline, "source": clip_file, "time_range": window, "target": Path("out.mp4"),
            "encoding": encoding, "upstream_jobs": (Path("first"), Path("second")),
        }  # fmt: skip
        return
    assert module.render(plan, Path("out.mp4"), encoding) is None
    written = calls.one("write_video")
    assert (written["path"], written["info"]) == (Path("out.mp4"), pipeline.info)
    assert (written["source"], written["window"], written["encoding"]) == (clip_file, window, encoding)


def test_an_error_of_rendering_names_the_nodes(fake_host, clip_file: Path, monkeypatch):
    module = fake_host.import_("_video.render_plan")
    RecordedCalls(monkeypatch).replace(
        "steadyscale.nodes._video.render_plan.write_video", ClipError("the disk is full")
    )
    plan = module.RenderPlan(Pipeline(VideoClip(clip_file)), node_names=("Upscale Frames",))
    with pytest.raises(ClipError, match=r"^SteadyScale \(Upscale Frames\): the disk is full$"):
        module.render(plan, Path("out.mp4"), Encoding())


def test_memory_is_reserved_for_at_most_the_largest_tile(fake_host, clip_file: Path):
    module = fake_host.import_("_video.render_plan")

    class Network:
        scale, halo = 2, 2

    for size, expected in (((64, 48), 64 * 48), ((1000, 1000), 512 * 512)):
        clip = TensorClip(torch.zeros(1, 3, size[1], size[0]))
        fake_host.reserved.clear()
        module.reserve_memory(Pipeline(clip).then(UpscaleOp(Network(), device="cpu")))
        [(num_bytes, device)] = fake_host.reserved
        assert num_bytes == expected * estimate_activation_bytes(Network(), 2)
        assert device == torch.device("cpu")


def test_a_resize_of_the_host_is_applied_before_our_frames(fake_host, clip_file: Path):
    source = fake_host.VideoFromFile(str(clip_file)).as_resized(32, 24, "lanczos")
    video = run_upscale(fake_host, source)
    assert video.get_dimensions() == video.get_display_dimensions() == (64, 48)
    assert video.get_components().images.shape == (12, 48, 64, 3)
