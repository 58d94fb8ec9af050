"""Runs out of a few choices: what they learn from, how long, and which of them go on with each other."""

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
from steadyscale.core.training.data.sources import sources_from_clip, sources_from_folder
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

WISH = TrainPreset("toy", steps=6, batch=2, crop=32)


def clip_of(texture_factory, count: int, side: int = 96) -> TensorClip:
    frames = torch.stack([texture_factory(number, side) for number in range(count)]).float() / 255
    return TensorClip(frames, Fraction(24))


def test_frames_are_spread_and_the_middle_one_is_held_out(texture_factory, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("steadyscale.core.training.data.sources.MAX_FRAMES", 4)
    clip = clip_of(texture_factory, 10, 48)
    material = sources_from_clip(clip, tmp_path)
    assert len(material.train) == 3
    assert (material.held_out_unseen, material.min_side) == (True, 48)
    kept = torch.cat([next(ImageClip(file).frames()) for file in material.train])
    wanted = torch.cat([clip._frames[number : number + 1] for number in (0, 3, 9)])
    assert torch.allclose(kept, wanted, atol=0.003)
    held_out = next(ImageClip(material.held_out).frames())
    assert torch.allclose(held_out, clip._frames[6:7], atol=0.003)
    assert [path.name for path in tmp_path.iterdir()] == [f"frames-{material.digest}"], "nothing else is left"
    assert sources_from_clip(clip, tmp_path) == material
    other = sources_from_clip(TensorClip(clip._frames.flip(-1)), tmp_path)
    assert other.digest != material.digest


def test_one_frame_is_learnt_from_and_measured_on(texture_factory, tmp_path: Path):
    material = sources_from_clip(clip_of(texture_factory, 1), tmp_path)
    assert (len(material.train), material.held_out_unseen) == (1, False)


def test_a_folder_gives_its_pictures_and_holds_the_first_out(texture_folder: Path, tmp_path: Path):
    material = sources_from_folder(texture_folder / "train", tmp_path)
    assert [Path(file).name for file in material.train] == ["1.png", "2.png", "3.png"]
    assert material.held_out_unseen
    shown = next(ImageClip(material.held_out).frames())
    assert torch.equal(shown, next(ImageClip(texture_folder / "train" / "0.png").frames()))
    two = sources_from_folder(texture_folder / "validate", tmp_path)
    assert (len(two.train), two.held_out_unseen) == (2, False)
    assert two.digest != material.digest
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="no pictures or videos"):
        sources_from_folder(tmp_path / "empty", tmp_path)


def test_large_pictures_are_measured_in_their_middle(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("steadyscale.core.training.data.sources.HELD_OUT_SIDE", 32)
    (tmp_path / "in").mkdir()
    picture = Image.new("RGB", (100, 80), "red")
    picture.paste((0, 255, 0), (34, 24, 66, 56))
    picture.save(tmp_path / "in" / "a.png")
    shown = next(ImageClip(sources_from_folder(tmp_path / "in", tmp_path).held_out).frames())
    assert shown.shape == (1, 3, 32, 32)
    assert torch.equal(shown, torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1).expand(1, 3, 32, 32))


def test_it_trains_and_leaves_its_file(texture_factory, tmp_path: Path):
    material = sources_from_clip(clip_of(texture_factory, 4), tmp_path)
    config = preset_config(WISH, material, tmp_path / "run", "cpu")
    reports = list(train(config, resume=True))
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert load_upscaler(weights_path(config)).scale == 2
    assert list(train(config, resume=True)) == [], "it is over"
    assert 15 < bicubic_score(material, 2) < 45


@pytest.mark.parametrize("size", NetworkSize)
@pytest.mark.parametrize("scale", [2, 4])
def test_every_size_has_settings_that_hold(texture_factory, tmp_path: Path, size: NetworkSize, scale: int):
    material = sources_from_clip(clip_of(texture_factory, 1), tmp_path)
    config = preset_config(replace(WISH, size=size, scale=scale, crop=96, adversarial=0.1), material, tmp_path / "run")
    assert config.network.scales == (scale,)
    assert config.data.crop <= 96 - 8 * scale, "as much as fits into frames of 96 pixels"
    assert config.data.crop % (8 * scale) == 0


def test_pictures_that_are_too_small_are_named(texture_factory, tmp_path: Path):
    material = sources_from_clip(clip_of(texture_factory, 1, 30), tmp_path)
    with pytest.raises(TrainingError, match="pictures of 30 pixels"):
        preset_config(WISH, material, tmp_path)


def test_runs_go_on_with_each_other_where_only_their_length_differs(texture_factory, tmp_path: Path):
    material = sources_from_clip(clip_of(texture_factory, 3), tmp_path)

    def label(wish: TrainPreset, material=material, device: str = "cpu") -> str:
        return config_hash(preset_config(wish, material, tmp_path / "run", device), material)

    same = label(WISH)
    assert label(replace(WISH, steps=7000), device="cuda") == same
    assert label(replace(WISH, steps=0, minutes=99)) == same
    changes = (
        {"seed": 1},
        {"scale": 4},
        {"size": NetworkSize.LARGE},
        {"learning_rate": 0.1},
        {"realistic": True},
        {"batch": 4},
    )
    labels = {label(replace(WISH, **change)) for change in changes}
    assert len(labels | {same}) == len(changes) + 1
    assert label(WISH, replace(material, digest="another")) != same


def test_minutes_become_steps_once(texture_factory, tmp_path: Path):
    material = sources_from_clip(clip_of(texture_factory, 4), tmp_path)
    run = tmp_path / "run"
    config = preset_config(replace(WISH, steps=0), material, run, "cpu")
    asked: list[int] = []
    long = fit_to_time(config, 10.0, lambda: asked.append(1))
    assert len(asked) == presets.TRIAL_STEPS
    assert long.steps > 1000
    assert 0.99 < long.learning.average < 1
    assert [path.name for path in run.iterdir()] == ["plan.json"], "the trial leaves nothing"
    (run / "plan.json").write_text(json.dumps({"minutes": 10.0, "steps": 77}))
    assert fit_to_time(config, 10.0).steps == 77, "the same wish is the same run"
    assert fit_to_time(config, 0.001).steps == 20, "a plan for another time does not hold"

    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_to_time(config, 2.0, cancel)
    assert [path.name for path in run.iterdir()] == ["plan.json"]
