"""Pairs: small pictures are the large ones reduced, in place, and depend on the seed, the step and nothing else."""

import shutil
from itertools import pairwise

import pytest
import torch
from PIL import Image
from steadyscale.core.training import TrainingError
from steadyscale.core.training.data.dataset import CachedImageDataset, batches, min_image_side, prefetch_map
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.video.images.png_writer import write_images


def pictures_of(config):
    return CachedImageDataset(config.data.train, min_side=min_image_side(config))


def test_small_pictures_are_the_large_ones_reduced_also_at_their_edges(make_config, texture_factory, tmp_path):
    Image.fromarray(texture_factory(9, 80).permute(1, 2, 0).numpy()).save(tmp_path / "one.png")
    config = make_config(data={"train": [str(tmp_path / "one.png")], "crop": 32, "candidates": 1}, batch=16)
    whole = texture_factory(9, 80)[None].float() / 255
    ways = [whole, whole.transpose(2, 3)]
    ways = [w.flip(axes) for w in ways for axes in ([], [2], [3], [2, 3])]
    batch = next(batches(config, pictures_of(config), 0))
    assert batch.small.shape == (16, 3, 16, 16)
    assert batch.large.shape == (16, 3, 32, 32)
    found = set()
    for small, large in zip(batch.small, batch.large, strict=True):
        for way, picture in enumerate(ways):
            places = picture.unfold(2, 32, 1).unfold(3, 32, 1)[0]  # (3, y, x, 32, 32)
            hits = (places == large[:, None, None]).all(-1).all(-1).all(0).nonzero()
            if len(hits):
                y, x = hits[0].tolist()
                found.add(way)
                # What the whole picture becomes when it is reduced on the grid that this crop lies on.
                grid = picture[..., y % 2 : 80 - y % 2, x % 2 : 80 - x % 2]
                reduced = resize(grid, grid.shape[-1] // 2, grid.shape[-2] // 2)[0]
                expected = reduced[:, y // 2 : y // 2 + 16, x // 2 : x // 2 + 16]
                assert (small - expected).abs().max() <= 0.51 / 255
                break
        else:
            pytest.fail("a crop is nowhere in the picture")
    assert len(found) >= 5  # of eight ways to turn and mirror


@pytest.mark.parametrize(("bits", "channels"), [(8, 3), (8, 4), (16, 3), (16, 4)])
def test_pictures_of_any_depth_are_seen_in_8_bits_and_without_alpha(tmp_path, bits, channels):
    frame = torch.rand(1, channels, 40, 50)
    write_images(tmp_path / "one.png", iter([frame]), bits=bits)
    (seen,) = CachedImageDataset([str(tmp_path)], min_side=8)
    levels = (frame * 65535).round() / 257 if bits == 16 else frame * 255
    assert torch.equal(seen, levels[0, :3].round().byte())


def test_pairs_depend_on_seed_step_and_number_alone(make_config):
    config = make_config(steps=6, network={"scales": [2, 4]}, degrade={"on": True})
    pictures = pictures_of(config)
    whole = list(batches(config, pictures, 0))
    assert [b.step for b in whole] == list(range(6))
    assert [b.scale for b in whole] == [2, 4] * 3
    assert [b.small.shape[-1] for b in whole] == [16, 8] * 3
    later = list(batches(config, pictures, 4))
    threaded = list(
        batches(
            make_config(steps=6, network={"scales": [2, 4]}, degrade={"on": True}, machine={"loaders": 3}), pictures, 0
        )
    )
    shares = [list(batches(config, pictures, 0, rank=part, world_size=2)) for part in (0, 1)]
    for i, batch in enumerate(whole):
        assert torch.equal(batch.small, threaded[i].small)
        assert torch.equal(batch.large, torch.cat([shares[0][i].large, shares[1][i].large]))
        assert torch.equal(batch.small, torch.cat([shares[0][i].small, shares[1][i].small]))
    assert torch.equal(later[0].small, whole[4].small)
    assert not torch.equal(whole[0].large, whole[2].large)
    other = next(batches(make_config(seed=1), pictures, 0))
    assert not torch.equal(other.large, next(batches(make_config(), pictures, 0)).large)


def test_the_busiest_place_is_taken(make_config, texture_factory, tmp_path):
    picture = torch.full((3, 160, 160), 90, dtype=torch.uint8)
    picture[:, :, 80:] = texture_factory(3)[:, :, 80:]
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "half.png")
    spread = []
    for candidates in (1, 8):
        data = {"train": [str(tmp_path / "half.png")], "candidates": candidates}
        config = make_config(data=data, batch=24)
        spread.append(next(batches(config, pictures_of(config), 0)).large.std((1, 2, 3)).mean())
    assert spread[1] > 1.4 * spread[0]


def test_views_of_one_place_are_less_than_a_small_pixel_apart(make_config):
    config = make_config(steps=12, network={"scales": [2, 4]}, losses={"steady": 10.0})
    pictures, shifts = pictures_of(config), set()
    for batch in batches(config, pictures, 0):
        down, right = batch.shift
        shifts.add((batch.scale, down, right))
        assert 0 <= min(down, right) <= max(down, right) < batch.scale
        assert down + right > 0
        first, second = batch.large[0::2, :, down:, right:], batch.large[1::2, :, : 32 - down, : 32 - right]
        assert (first - second).abs().max() < 1e-6
        assert (first[0] - first[1]).abs().max() > 0.1, "each pair has a place of its own"
        assert (batch.small[0::2] - batch.small[1::2]).abs().amax((1, 2, 3)).min() > 0.05
    assert len(shifts) > 6
    with pytest.raises(TrainingError, match="batch 4 on 4 processes"):
        next(batches(config, pictures, 0, rank=0, world_size=4))


def test_two_views_have_noise_of_their_own(make_config):
    worse = {"on": True, "first": {"blur": 0.0, "noise": 1.0}}
    batch = next(batches(make_config(losses={"steady": 10.0}, degrade=worse), pictures_of(make_config()), 0))
    alike = next(batches(make_config(losses={"steady": 10.0}), pictures_of(make_config()), 0))
    noise = (batch.small - alike.small).flatten(1)
    assert noise.std(1).min() > 0.005
    assert torch.corrcoef(noise[:2])[0, 1].abs() < 0.9


def test_shrinking_shows_more_of_the_picture(make_config, tmp_path):
    ramp = torch.arange(320).clamp(max=255).byte().expand(3, 320, 320)  # one step a pixel
    Image.fromarray(ramp.permute(1, 2, 0).contiguous().numpy()).save(tmp_path / "ramp.png")
    data = {"train": [str(tmp_path / "ramp.png")], "shrink": 0.5, "crop": 32, "candidates": 1}
    config = make_config(data=data, batch=32)
    large = next(batches(config, pictures_of(config), 0)).large
    slopes = torch.maximum(
        (large[..., -1, :] - large[..., 0, :]).abs().mean((1, 2)), (large[..., -1] - large[..., 0]).abs().mean((1, 2))
    )
    slopes = slopes[slopes > 20 / 255] / (31 / 255)
    assert slopes.min() < 1.2
    assert 1.7 < slopes.max() < 2.1


def test_videos_are_pictures_too_and_other_files_are_left_alone(make_config, clip_file, texture_folder, tmp_path):
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(clip_file, folder / "clip.mp4")
    shutil.copy(texture_folder / "train/0.png", folder / "deep/a.png")
    (folder / "notes.txt").write_text("not a picture")
    pictures = CachedImageDataset([str(folder)], min_side=8, frames_per_video=4)
    assert len(pictures) == 5
    frames = [p for p in pictures if p.shape != (3, 160, 160)]
    assert len(frames) == 4
    assert not any(torch.equal(a, b) for a, b in pairwise(frames))


def test_pictures_beyond_the_memory_are_read_again(texture_folder):
    kept = CachedImageDataset([str(texture_folder / "train")], min_side=8)
    forgetful = CachedImageDataset([str(texture_folder / "train")], min_side=8, cache_bytes=0)
    assert all(torch.equal(a, b) for a, b in zip(kept, forgetful, strict=True))
    assert kept[0] is kept[0]
    assert forgetful[0] is not forgetful[0]


def test_what_cannot_be_learnt_from_is_named(texture_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"no pictures or videos in .*empty"):
        CachedImageDataset([str(tmp_path / "empty")], min_side=8)
    with pytest.raises(TrainingError, match=r"0\.png is 160x160; .*200 pixels a side"):
        CachedImageDataset([str(texture_folder / "train")], min_side=200)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(TrainingError, match=r"broken\.png"):
        CachedImageDataset([str(tmp_path / "broken.png")], min_side=8)


def test_all_that_cannot_be_learnt_from_is_named_at_once(texture_folder, tmp_path):
    shutil.copy(texture_folder / "train" / "0.png", tmp_path / "good.png")
    for name in ("b", "c"):
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG but no more")
    write_images(tmp_path / "d.png", iter([torch.rand(1, 3, 40, 20)]))
    with pytest.raises(TrainingError, match=r"b\.png: .*; 2 more cannot be learnt from either: \S*c\.png, \S*d\.png$"):
        CachedImageDataset([str(tmp_path)], min_side=30)


def test_making_ahead_keeps_the_order_and_passes_errors_on():
    assert list(prefetch_map(lambda n: n * n, range(9), 3)) == [n * n for n in range(9)]
    assert list(prefetch_map(lambda n: n, range(3), 5)) == [0, 1, 2]

    def fails(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    made = prefetch_map(fails, range(9), 2)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(made)
