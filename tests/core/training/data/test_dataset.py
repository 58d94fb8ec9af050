"""Training pairs: aligned, reproducible from seed and step alone, from images and videos."""

import shutil
from itertools import pairwise

import pytest
import torch
from PIL import Image
from steadyscale.core.training import TrainingError
from steadyscale.core.training.data.dataset import batches, min_image_side, prefetch_map
from steadyscale.core.training.data.image_files import CachedImageDataset
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.video.images.png_writer import write_images


def load_images(config):
    return CachedImageDataset(config.data.train, min_side=min_image_side(config))


def test_low_resolution_crops_are_the_reduced_crops_including_edges(make_config, texture_factory, tmp_path):
    Image.fromarray(texture_factory(9, 80).permute(1, 2, 0).numpy()).save(tmp_path / "one.png")
    config = make_config(data={"train": [str(tmp_path / "one.png")], "crop": 32, "crop_candidates": 1}, batch=16)
    source = texture_factory(9, 80)[None].float() / 255
    orientations = [source, source.transpose(2, 3)]
    orientations = [x.flip(axes) for x in orientations for axes in ([], [2], [3], [2, 3])]
    batch = next(batches(config, load_images(config), 0))
    assert batch.small.shape == (16, 3, 16, 16)
    assert batch.large.shape == (16, 3, 32, 32)
    found = set()
    for small, large in zip(batch.small, batch.large, strict=True):
        for orientation, image in enumerate(orientations):
            corners = (image[0, :, :49, :49] == large[:, :1, :1]).all(0).nonzero().tolist()
            hits = [(y, x) for y, x in corners if torch.equal(image[0, :, y : y + 32, x : x + 32], large)]
            if hits:
                y, x = hits[0]
                found.add(orientation)
                # The full image reduced on the sampling grid of this crop.
                grid = image[..., y % 2 : 80 - y % 2, x % 2 : 80 - x % 2]
                reduced = resize(grid, grid.shape[-1] // 2, grid.shape[-2] // 2)[0]
                expected = reduced[:, y // 2 : y // 2 + 16, x // 2 : x // 2 + 16]
                assert (small - expected).abs().max() <= 0.51 / 255
                break
        else:
            pytest.fail("a crop is not in the image")
    assert len(found) >= 5  # of the eight orientations


@pytest.mark.parametrize(("bits", "channels"), [(8, 3), (8, 4), (16, 3), (16, 4)])
def test_images_of_any_depth_are_read_as_8_bits_without_alpha(tmp_path, bits, channels):
    frame = torch.rand(1, channels, 40, 50)
    write_images(tmp_path / "one.png", iter([frame]), bits=bits)
    (image,) = CachedImageDataset([str(tmp_path)], min_side=8)
    levels = (frame * 65535).round() / 257 if bits == 16 else frame * 255
    assert torch.equal(image, levels[0, :3].round().byte())


def test_pairs_depend_on_seed_step_and_index_alone(make_config):
    config = make_config(steps=6, network={"scales": [2, 4]}, degrade={"enabled": True})
    images = load_images(config)
    full = list(batches(config, images, 0))
    assert [b.step for b in full] == list(range(6))
    assert [b.scale for b in full] == [2, 4] * 3
    assert [b.small.shape[-1] for b in full] == [16, 8] * 3
    later = list(batches(config, images, 4))
    threaded = list(
        batches(
            make_config(steps=6, network={"scales": [2, 4]}, degrade={"enabled": True}, runtime={"num_workers": 3}),
            images,
            0,
        )
    )
    shares = [list(batches(config, images, 0, rank=part, world_size=2)) for part in (0, 1)]
    for i, batch in enumerate(full):
        assert torch.equal(batch.small, threaded[i].small)
        assert torch.equal(batch.large, torch.cat([shares[0][i].large, shares[1][i].large]))
        assert torch.equal(batch.small, torch.cat([shares[0][i].small, shares[1][i].small]))
    assert torch.equal(later[0].small, full[4].small)
    assert not torch.equal(full[0].large, full[2].large)
    other = next(batches(make_config(seed=1), images, 0))
    assert not torch.equal(other.large, next(batches(make_config(), images, 0)).large)


def test_the_candidate_crop_with_the_most_detail_is_taken(make_config, texture_factory, tmp_path):
    image = torch.full((3, 160, 160), 90, dtype=torch.uint8)
    image[:, :, 80:] = texture_factory(3)[:, :, 80:]
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "half.png")
    spread = []
    for candidates in (1, 8):
        data = {"train": [str(tmp_path / "half.png")], "crop_candidates": candidates}
        config = make_config(data=data, batch=24)
        spread.append(next(batches(config, load_images(config), 0)).large.std((1, 2, 3)).mean())
    assert spread[1] > 1.4 * spread[0]


def test_crop_pairs_have_a_sub_pixel_offset(make_config):
    config = make_config(steps=12, network={"scales": [2, 4]}, losses={"shift_consistency": 10.0})
    images, shifts = load_images(config), set()
    for batch in batches(config, images, 0):
        down, right = batch.shift
        shifts.add((batch.scale, down, right))
        assert 0 <= min(down, right) <= max(down, right) < batch.scale
        assert down + right > 0
        first, second = batch.large[0::2, :, down:, right:], batch.large[1::2, :, : 32 - down, : 32 - right]
        assert (first - second).abs().max() < 1e-6
        assert (first[0] - first[1]).abs().max() > 0.1, "each pair has a position of its own"
        assert (batch.small[0::2] - batch.small[1::2]).abs().amax((1, 2, 3)).min() > 0.05
    assert len(shifts) > 6
    with pytest.raises(TrainingError, match="batch 4 on 4 processes"):
        next(batches(config, images, 0, rank=0, world_size=4))


def test_crops_of_a_pair_have_independent_noise(make_config):
    degrade = {"enabled": True, "first": {"blur_prob": 0.0, "noise_prob": 1.0}}
    batch = next(
        batches(make_config(losses={"shift_consistency": 10.0}, degrade=degrade), load_images(make_config()), 0)
    )
    clean = next(batches(make_config(losses={"shift_consistency": 10.0}), load_images(make_config()), 0))
    noise = (batch.small - clean.small).flatten(1)
    assert noise.std(1).min() > 0.005
    assert torch.corrcoef(noise[:2])[0, 1].abs() < 0.9


def test_color_channels_are_permuted_in_a_share_of_the_crops(make_config, tmp_path):
    """Of a gradient whose channels are far apart in value."""
    gradient = torch.arange(80).expand(3, 80, 80) + torch.tensor([0, 80, 160])[:, None, None]
    Image.fromarray(gradient.byte().permute(1, 2, 0).numpy()).save(tmp_path / "one.png")
    data = {"train": [str(tmp_path / "one.png")], "crop": 32, "permute_colors": 0.5}
    config = make_config(data=data, batch=96, losses={"shift_consistency": 10.0})
    batch = next(batches(config, load_images(config), 0))
    orders = [tuple(large.mean((1, 2)).argsort().tolist()) for large in batch.large]
    assert orders == [tuple(small.mean((1, 2)).argsort().tolist()) for small in batch.small]
    assert orders[0::2] == orders[1::2], "both crops of a pair"
    assert len(set(orders)) == 6
    assert 0.4 < orders.count((0, 1, 2)) / len(orders) < 0.8  # half of them, and a sixth of the others


def test_min_resize_enlarges_the_area_of_a_crop(make_config, tmp_path):
    ramp = torch.arange(320).clamp(max=255).byte().expand(3, 320, 320)  # one level per pixel
    Image.fromarray(ramp.permute(1, 2, 0).contiguous().numpy()).save(tmp_path / "ramp.png")
    data = {"train": [str(tmp_path / "ramp.png")], "min_resize": 0.5, "crop": 32, "crop_candidates": 1}
    config = make_config(data=data, batch=32)
    large = next(batches(config, load_images(config), 0)).large
    slopes = torch.maximum(
        (large[..., -1, :] - large[..., 0, :]).abs().mean((1, 2)), (large[..., -1] - large[..., 0]).abs().mean((1, 2))
    )
    slopes = slopes[slopes > 20 / 255] / (31 / 255)
    assert slopes.min() < 1.2
    assert 1.7 < slopes.max() < 2.1


def test_videos_are_read_and_other_files_ignored(make_config, clip_file, texture_folder, tmp_path):
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(clip_file, folder / "clip.mp4")
    shutil.copy(texture_folder / "train/0.png", folder / "deep/a.png")
    (folder / "notes.txt").write_text("not an image")
    images = CachedImageDataset([str(folder)], min_side=8, frames_per_video=4)
    assert len(images) == 5
    frames = [p for p in images if p.shape != (3, 160, 160)]
    assert len(frames) == 4
    assert not any(torch.equal(a, b) for a, b in pairwise(frames))


def test_images_beyond_the_cache_limit_are_decoded_again(texture_folder):
    cached = CachedImageDataset([str(texture_folder / "train")], min_side=8)
    uncached = CachedImageDataset([str(texture_folder / "train")], min_side=8, cache_bytes=0)
    assert all(torch.equal(a, b) for a, b in zip(cached, uncached, strict=True))
    assert cached[0] is cached[0]
    assert uncached[0] is not uncached[0]


def test_unusable_files_are_named(texture_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"no images or videos in .*empty"):
        CachedImageDataset([str(tmp_path / "empty")], min_side=8)
    with pytest.raises(TrainingError, match=r"0\.png is 160x160; .*200 pixels a side"):
        CachedImageDataset([str(texture_folder / "train")], min_side=200)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(TrainingError, match=r"broken\.png"):
        CachedImageDataset([str(tmp_path / "broken.png")], min_side=8)


def test_all_unusable_files_are_named_at_once(texture_folder, tmp_path):
    shutil.copy(texture_folder / "train" / "0.png", tmp_path / "good.png")
    for name in ("b", "c"):
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG but no more")
    write_images(tmp_path / "d.png", iter([torch.rand(1, 3, 40, 20)]))
    with pytest.raises(TrainingError, match=r"b\.png: .*; 2 more files cannot be used either: \S*c\.png, \S*d\.png$"):
        CachedImageDataset([str(tmp_path)], min_side=30)


def test_prefetching_keeps_the_order_and_passes_errors_on():
    assert list(prefetch_map(lambda n: n * n, range(9), 3)) == [n * n for n in range(9)]
    assert list(prefetch_map(lambda n: n, range(3), 5)) == [0, 1, 2]

    def fail_at_two(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    results = prefetch_map(fail_at_two, range(9), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
