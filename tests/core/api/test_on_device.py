"""Videos from file to file on a GPU, simulated: the frames of the CPU, and budgets for what is transferred."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import simulated_gpu
import torch
from camera_simulation import make_shaken_clip
from nearest_upscaler import NearestUpscaler
from numbered_video import make_video, numbered_frames, read_numbers
from steadyscale.core import (
    Border,
    ClipError,
    Encoding,
    OutputSize,
    PostProcess,
    Precision,
    StabilizeSettings,
    TensorClip,
    UpscaleSettings,
    enhance_video,
    open_clip,
    stabilize_video,
    upscale_video,
    write_clip,
    write_images,
)

GPU, CPU = {"device": "simgpu"}, {"device": "cpu"}
LOSSLESS = Encoding("ffv1")
FP32 = UpscaleSettings(precision=Precision.FP32)


def read_planes(path: Path) -> list[list[np.ndarray]]:
    """The stored samples of each frame."""
    with av.open(str(path)) as container:
        return [
            [np.frombuffer(memoryview(p), np.uint8).reshape(p.height, -1).astype(int) for p in frame.planes]
            for frame in container.decode(video=0)
        ]


def assert_same_planes(first: Path, second: Path, tolerance: int = 1) -> None:
    """Each sample is within a code value, and nearly all are equal."""
    frames, others = read_planes(first), read_planes(second)
    assert len(frames) == len(others) > 1
    for planes, other_planes in zip(frames, others, strict=True):
        for plane, other in zip(planes, other_planes, strict=True):
            difference = np.abs(plane - other)
            assert difference.max() <= tolerance
            assert (difference > 0).mean() < 0.25
    assert max(float(plane.std()) for plane in frames[0]) > 5


def write_frames(path: Path, frames: torch.Tensor) -> Path:
    clip = TensorClip(frames)
    write_clip(path, clip.frames(), clip.info, encoding=LOSSLESS)
    return path


@pytest.fixture
def textured(tmp_path: Path) -> Path:
    random = torch.Generator().manual_seed(2)
    blobs = torch.nn.functional.interpolate(torch.rand(6, 3, 8, 12, generator=random), (64, 96), mode="bicubic")
    return write_frames(tmp_path / "textured.mkv", blobs.clamp(0, 1))


@pytest.fixture
def shaken(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "shaken.mkv", next(make_shaken_clip(8, 160, 96)[0].frames(8)))


@pytest.mark.parametrize("deflicker", [0.0, 0.6])
@pytest.mark.parametrize("post", [PostProcess(), PostProcess(strength=0.7, grain=0.2)])
def test_an_upscaled_video_is_that_of_the_cpu(gpu, tmp_path: Path, textured: Path, deflicker, post):
    settings = UpscaleSettings(precision=Precision.FP32, postprocess=post, size=OutputSize(factor=1.5))
    for name, device in (("gpu.mkv", GPU), ("cpu.mkv", CPU)):
        report = upscale_video(
            textured,
            tmp_path / name,
            model=NearestUpscaler(),
            settings=settings,
            deflicker=deflicker,
            encoding=LOSSLESS,
            **device,
        )
        assert (report.frames_in, report.frames_out) == (6, 6)
    assert_same_planes(tmp_path / "gpu.mkv", tmp_path / "cpu.mkv", 2 if deflicker or post.grain else 1)


@pytest.mark.parametrize("border", [Border.CROP, Border.MIRROR, Border.WRAP, Border.FILL])
def test_an_enhanced_video_is_that_of_the_cpu(gpu, tmp_path: Path, shaken: Path, border):
    for name, device in (("gpu.mkv", GPU), ("cpu.mkv", CPU)):
        enhance_video(
            shaken,
            tmp_path / name,
            model=NearestUpscaler(),
            upscaling=FP32,
            stabilization=StabilizeSettings(border=border),
            encoding=LOSSLESS,
            **device,
        )
    frames, others = (torch.cat(list(open_clip(tmp_path / name).frames())) for name in ("gpu.mkv", "cpu.mkv"))
    assert frames.shape == others.shape
    # OpenCV interpolates at positions rounded to 1/32 pixel.
    assert float((frames - others).abs().mean()) < 0.01
    assert float(frames.std()) > 0.05


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [
        ("libx264", "yuv420p"),
        ("libx264", "yuv422p10le"),
        ("ffv1", "yuv444p16le"),
        ("ffv1", "gbrp10le"),
        ("ffv1", "yuva420p"),
    ],
)
def test_no_frame_is_lost_or_exchanged(gpu, tmp_path: Path, codec, pixel_format):
    source = make_video(tmp_path / "source.mkv", 12, codec=codec, pixel_format=pixel_format)
    report = upscale_video(source, tmp_path / "out.mkv", model=NearestUpscaler(), encoding=LOSSLESS, **GPU)
    assert report.frames_out == 12
    assert read_numbers(open_clip(tmp_path / "out.mkv")) == list(range(12))


def test_rotated_video_is_upright(gpu, tmp_path: Path):
    source = make_video(tmp_path / "source.mp4", 4, rotation=90)
    for name, device in (("gpu.mkv", GPU), ("cpu.mkv", CPU)):
        upscale_video(source, tmp_path / name, model=NearestUpscaler(), settings=FP32, encoding=LOSSLESS, **device)
    assert open_clip(tmp_path / "gpu.mkv").info.size == open_clip(source).info.scaled(2).size
    assert_same_planes(tmp_path / "gpu.mkv", tmp_path / "cpu.mkv")


def test_a_folder_of_images_is_read_and_written(gpu, tmp_path: Path):
    write_images(tmp_path / "in", iter([numbered_frames(5)]))
    upscale_video(tmp_path / "in", tmp_path / "out", model=NearestUpscaler(), **GPU)
    assert read_numbers(open_clip(tmp_path / "out")) == list(range(5))


def test_repeated_frames_need_no_network(gpu, tmp_path: Path):
    source = write_frames(tmp_path / "in.mkv", numbered_frames(3).repeat_interleave(4, dim=0))
    report = upscale_video(source, tmp_path / "out.mkv", model=NearestUpscaler(), encoding=LOSSLESS, **GPU)
    assert report.stats is not None
    assert report.stats.repeated_frames == 9
    assert read_numbers(open_clip(tmp_path / "out.mkv")) == [n // 4 for n in range(12)]


def test_a_resumable_run_gives_the_same_frames(gpu, tmp_path: Path, textured: Path):
    for name, options in (("plain.mkv", {}), ("job.mkv", {"resumable": True, "segment_seconds": 0.1})):
        upscale_video(
            textured, tmp_path / name, model=NearestUpscaler(), settings=FP32, encoding=LOSSLESS, **GPU, **options
        )
    assert_same_planes(tmp_path / "plain.mkv", tmp_path / "job.mkv")


def test_a_network_that_returns_nan_writes_no_file(gpu, tmp_path: Path, textured: Path):
    class Broken(NearestUpscaler):
        def forward(self, x):
            return super().forward(x) / 0 * 0

    with pytest.raises(ClipError, match="not finite"):
        upscale_video(textured, tmp_path / "out.mkv", model=Broken(), encoding=LOSSLESS, **GPU)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["textured.mkv"]


def test_running_out_of_memory_loses_nothing(gpu, tmp_path: Path, textured: Path):
    textured = write_frames(tmp_path / "short.mkv", torch.cat(list(open_clip(textured).frames()))[:3])
    upscale_video(textured, tmp_path / "whole.mkv", model=NearestUpscaler(), settings=FP32, encoding=LOSSLESS, **GPU)
    start = gpu.read_counters()
    upscale_video(textured, tmp_path / "again.mkv", model=NearestUpscaler(), settings=FP32, encoding=LOSSLESS, **GPU)
    allocations = (gpu.read_counters() - start).allocations
    for index in range(0, allocations, max(1, allocations // 20)):
        target = tmp_path / f"{index}.mkv"
        gpu.fail_allocation(index)
        upscale_video(textured, target, model=NearestUpscaler(), settings=FP32, encoding=LOSSLESS, **GPU)
        assert_same_planes(target, tmp_path / "whole.mkv")


def count_per_frame(gpu, tmp_path: Path, size=(128, 96), **options) -> dict[str, float]:
    """Counters per frame of a long clip, without those of its start."""
    runs = []
    for count in (2, 4, 8):  # The first run also uploads the filters for chroma.
        source = make_video(tmp_path / f"{count}.mp4", count, size=size)
        before = gpu.read_counters()
        upscale_video(source, tmp_path / "out.mp4", model=NearestUpscaler(), **GPU, **options)
        runs.append(gpu.read_counters() - before)
    return {name: value / 4 for name, value in vars(runs[2] - runs[1]).items()}


def test_budget_from_file_to_file(gpu, tmp_path: Path):
    """At most 1.6 bytes per pixel each way, all from and to pinned memory, and one synchronization per frame."""
    counts = count_per_frame(gpu, tmp_path)
    pixels = 128 * 96
    assert 1.4 * pixels < counts["bytes_to_device"] <= 1.6 * pixels
    assert 1.4 * 4 * pixels < counts["bytes_to_host"] <= 1.6 * 4 * pixels
    assert counts["pageable_bytes"] == 0
    assert counts["synchronizations"] <= 1
    assert counts["launches"] <= 60


def test_budget_with_deflickering(gpu, tmp_path: Path):
    counts = count_per_frame(gpu, tmp_path, deflicker=0.6)
    assert counts["pageable_bytes"] == 0
    assert counts["synchronizations"] <= 1
    assert counts["launches"] <= 160


def test_stabilizing_alone_keeps_the_planes_of_the_file(gpu, tmp_path: Path, shaken: Path):
    """With a GPU present, too: a warp on the CPU takes less time than the transfer."""
    before = gpu.read_counters()
    report = stabilize_video(shaken, tmp_path / "gpu.mkv", encoding=LOSSLESS, **GPU)
    assert report.device == "cpu"
    assert gpu.read_counters() == before
    stabilize_video(shaken, tmp_path / "cpu.mkv", encoding=LOSSLESS, **CPU)
    assert_same_planes(tmp_path / "gpu.mkv", tmp_path / "cpu.mkv", 0)


def test_auto_takes_the_gpu(gpu, tmp_path: Path, textured: Path):
    report = upscale_video(textured, tmp_path / "out.mkv", model=NearestUpscaler(), encoding=LOSSLESS)
    assert report.device == simulated_gpu.DEVICE
    assert report.stats is not None
    assert report.stats.mode == "fp16"
