"""Training clips: a simulated camera, neighboring frames of videos, their motion, and one codec for all frames."""

import numpy as np
import pytest
import torch
from steadyscale.core.motion.optical_flow.consistency import backward_warp
from steadyscale.core.training import TrainingError
from steadyscale.core.training.config.degradation import DegradationConfig, DegradationStage
from steadyscale.core.training.data import clips, compression_artifacts
from steadyscale.core.training.data.dataset import batches, load_images
from steadyscale.core.training.data.degradations import degrade
from steadyscale.core.training.data.image_files import CachedImageDataset
from steadyscale.core.upscaling.resize import resize

NOTHING = DegradationStage(blur_prob=0.0, noise_prob=0.0, up_prob=0.0, down_prob=0.0, jpeg_quality=(95.0, 95.0))


@pytest.fixture
def make_clip_config(make_config):
    """make_clip_config(...) -> settings with two clips of three frames per step."""

    def make(**changes):
        data = {"clip_frames": 3, "crop": 64, **changes.pop("data", {})}
        return make_config(batch=6, data=data, **changes)

    return make


def test_a_camera_at_rest_shows_the_center(texture_factory, monkeypatch):
    for name in ("MAX_PAN", "MAX_SHAKE", "MAX_ROLL", "MAX_ZOOM"):
        monkeypatch.setattr(clips, name, 0.0)
    image = texture_factory(2, 60).float() / 255
    frames = clips.simulate_camera(image, 40, 3, np.random.default_rng(0))
    assert (frames - image[:, 10:50, 10:50]).abs().max() < 1e-4


def test_a_pan_moves_by_the_drawn_pixels(texture_factory, monkeypatch):
    for name in ("MAX_SHAKE", "MAX_ROLL", "MAX_ZOOM"):
        monkeypatch.setattr(clips, name, 0.0)
    size = 96 + 2 * clips.camera_margin(3)
    image = texture_factory(2, size).float() / 255
    frames = clips.simulate_camera(image, 96, 3, np.random.default_rng(5))
    drawn = np.random.default_rng(5).uniform(-clips.MAX_PAN, clips.MAX_PAN, 2)
    assert np.abs(drawn).max() > 1
    motion = clips.measure_motion(frames)
    # The camera moves by `drawn`, so a point was there, in the frame before, that many pixels further on.
    found = motion.flow[1:, :, 24:-24, 24:-24].median(3).values.median(2).values
    assert np.abs(found.numpy() - drawn).max() < 0.15
    assert motion.confidence[1:, :, 24:-24, 24:-24].mean() > 0.7
    assert motion.confidence[0].max() == 0


def test_crops_are_clips_that_depend_on_seed_step_and_index_alone(make_clip_config):
    config = make_clip_config(steps=3)
    images = load_images(config)
    full = list(batches(config, images, 0))
    shares = [list(batches(config, images, 0, rank=part, world_size=2)) for part in (0, 1)]
    for batch, first, second in zip(full, *shares, strict=True):
        assert batch.small.shape == (6, 3, 32, 32)
        assert batch.large.shape == (6, 3, 64, 64)
        assert torch.equal(batch.large, torch.cat([first.large, second.large]))
        assert torch.equal(batch.motion.flow, torch.cat([first.motion.flow, second.motion.flow]))
        inside = (..., slice(4, -4), slice(4, -4))
        reduced = resize(batch.large, 32, 32)
        assert (batch.small - reduced)[inside].abs().max() <= 0.51 / 255
        warped = backward_warp(batch.large.roll(1, 0), batch.motion.flow)
        error = (warped - batch.large).abs().mean(1, keepdim=True)
        confidence = batch.motion.confidence
        assert (error * confidence).sum() / confidence.sum() < 0.3 * (batch.large.roll(1, 0) - batch.large).abs().mean()
        assert confidence[[0, 3]].max() == 0
    assert torch.equal(next(batches(config, images, 2)).large, full[2].large)
    with pytest.raises(TrainingError, match="batch 6 on 6 processes is 1 crops for each; choose a multiple of 18"):
        next(batches(config, images, 0, world_size=6))


def test_videos_give_neighboring_frames(make_clip_config, make_video, tmp_path):
    levels = [10 + 6 * number for number in range(20)]
    video = make_video(tmp_path / "steps.mkv", levels)
    dataset = CachedImageDataset([str(video)], min_side=8, frames_per_video=2, clip_frames=3)
    found = [clip.float().mean((1, 2, 3)).round().tolist() for clip in dataset]
    assert [clip.shape for clip in dataset] == [(3, 3, 96, 96)] * 2
    assert np.abs(np.array(found) - np.array([levels[0:3], levels[10:13]])).max() <= 2
    config = make_clip_config(data={"train": [str(video)], "frames_per_video": 2}, steps=4)
    for batch in batches(config, load_images(config), 0):
        steps = batch.large.mean((1, 2, 3)).view(2, 3).diff(dim=1) * 255
        assert (steps.abs() - 6).abs().max() < 2
    with pytest.raises(TrainingError, match=r"steps\.mkv has fewer than 21 frames \(data.clip_frames\); remove it"):
        CachedImageDataset([str(video)], min_side=8, clip_frames=21)


@pytest.fixture
def make_video():
    """make_video(path, levels): a lossless 96x96 video whose frames are flat, of these gray levels."""

    def make(path, levels):
        import av

        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width = stream.height = 96
            stream.pix_fmt = "bgr0"
            for level in levels:
                frame = av.VideoFrame.from_ndarray(np.full((96, 96, 3), level, np.uint8), format="rgb24")
                container.mux(stream.encode(frame.reformat(format="bgr0")))
            container.mux(stream.encode(None))
        return path

    return make


def test_frames_of_a_clip_share_all_but_the_noise(texture_factory):
    still = (texture_factory(4, 64).float() / 255).expand(3, -1, -1, -1)
    blurred = DegradationStage(noise_prob=0.0)
    result = degrade(
        still, 32, 32, DegradationConfig(True, 0.0, first=blurred, second=blurred), np.random.default_rng(1)
    )
    assert result.shape == (3, 3, 32, 32)
    assert torch.equal(result[0], result[1])
    noisy = DegradationConfig(True, 0.0, final_sinc_prob=0.0, first=NOTHING, second=DegradationStage(blur_prob=0.0))
    result = degrade(still, 64, 64, noisy, np.random.default_rng(1))
    noise = result - result.mean(0)
    assert noise.std() > 0.005


@pytest.mark.parametrize("codec", compression_artifacts.available_codecs())
def test_a_codec_compresses_the_clip_as_one(codec, texture_factory):
    levels = torch.tensor([0.5, 0.6, 0.8])
    frames = (texture_factory(4, 49).float() / 255)[None] * levels.view(3, 1, 1, 1)
    result = compression_artifacts.video_round_trip(frames, codec, 24)
    assert result.shape == frames.shape
    assert (result.mean((1, 2, 3)) - frames.mean((1, 2, 3))).abs().max() < 0.01
    assert torch.equal(
        compression_artifacts.jpeg_round_trip(frames, 60)[1], compression_artifacts.jpeg_round_trip(frames[1], 60)
    )
    alone = compression_artifacts.video_round_trip(frames[2], codec, 24)
    assert not torch.equal(alone, result[2]), "the third frame is predicted from the second"
