"""The bundled networks: small, available offline, accurate, and consistent with their model card."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from spandrel import ModelLoader
from steadyscale.core.training import bicubic, read_config, score
from steadyscale.core.training.data.compression_artifacts import video_round_trip
from steadyscale.core.training.evaluate.metrics import make_lr_pair, psnr
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, load_upscaler
from steadyscale.models.zoo import bundled, zoo
from torch import nn

REPOSITORY = Path(__file__).parents[3]
FOR_CLEAN_VIDEO = [model for model in zoo.BUNDLED_MODELS if "restore" not in model.name]
RESTORE = [model for model in zoo.BUNDLED_MODELS if "restore" in model.name]
CARD = (bundled.WEIGHTS_FOLDER / "README.md").read_text(encoding="utf-8")
RESULTS = json.loads((REPOSITORY / "bench/results/quality-epyc.json").read_text(encoding="utf-8"))
ROWS = {row["name"]: row for row in RESULTS["rows"]}


@pytest.fixture(params=zoo.BUNDLED_MODELS, ids=lambda network: network.name)
def network(request):
    return request.param


@pytest.fixture(params=FOR_CLEAN_VIDEO, ids=lambda network: network.name)
def clean(request):
    return request.param


@pytest.fixture(params=RESTORE, ids=lambda network: network.name)
def restoring(request):
    return request.param


@pytest.fixture(scope="module")
def dead_leaves():
    """Three dead-leaves images (3, 256, 256), uint8: overlapping discs of many sizes with clean edges.

    They have the statistics of photographs, and none of the training images looks like them.
    """
    random = torch.Generator().manual_seed(11)
    y, x = torch.meshgrid(torch.arange(1024.0), torch.arange(1024.0), indexing="ij")
    images = []
    for _ in range(3):
        image = torch.rand(3, 1, 1, generator=random).expand(3, 1024, 1024).clone()
        for _ in range(120):
            row, column, size, *color = torch.rand(6, generator=random).tolist()
            radius = 16 / (0.06 + size)
            rows, cols = (slice(max(0, int(1024 * c - radius)), int(1024 * c + radius) + 2) for c in (row, column))
            inside = torch.hypot(y[rows, cols] - 1024 * row, x[rows, cols] - 1024 * column) < radius
            image[:, rows, cols] = torch.where(inside, torch.tensor(color)[:, None, None], image[:, rows, cols])
        images.append((F.avg_pool2d(image[None], 4)[0] * 255).round().byte())
    return images


def multiplications(network: nn.Module) -> int:
    """Multiplications per input pixel; all convolutions of these networks run at input size."""
    return sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, nn.Conv2d))


def test_networks_are_small_and_load_in_spandrel(network, sample_image):
    assert network.path.stat().st_size < 2_000_000
    ours, theirs = load_upscaler(network.path), ModelLoader().load_from_file(network.path)
    assert (ours.scale, ours.architecture) == (network.scale, network.architecture)
    assert theirs.scale == network.scale
    assert torch.allclose(ours(sample_image), theirs(sample_image).clamp(0, 1), atol=1e-5)
    share = multiplications(ours.model) / multiplications(SRVGGNetCompact(SRVGGConfig()))
    assert share < (0.35 if network in RESTORE else 0.1), "of realesr-animevideov3"
    assert f"({round(ours.parameters_count / 1000)} k parameters)" in network.description


def test_networks_for_clean_video_are_much_better_than_bicubic(clean, dead_leaves):
    reference, ours = (
        score(upscaler, dead_leaves, clean.scale) for upscaler in (bicubic(clean.scale), load_upscaler(clean.path))
    )
    assert reference.psnr > 25, "the test images are suitable"
    assert ours.psnr > reference.psnr + 1.5
    assert ours.ssim > reference.ssim + 0.005


def test_restoring_networks_remove_compression(restoring, dead_leaves):
    """On compressed, noisy inputs they are nearer to the truth than bicubic, and flat areas are smoother."""
    network, upscale_bicubic = load_upscaler(restoring.path), bicubic(restoring.scale)
    random = torch.Generator().manual_seed(5)
    gains, roughness = [], []
    for image in dead_leaves:
        small, large = make_lr_pair(image, restoring.scale)
        noisy = (small + 4 / 255 * torch.randn(small.shape, generator=random)).clamp(0, 1)
        damaged = video_round_trip(noisy[0], "h264", 30)[None]
        ours, reference = network(damaged).clamp(0, 1), upscale_bicubic(damaged).clamp(0, 1)
        gains.append(psnr(ours, large, restoring.scale) - psnr(reference, large, restoring.scale))
        flat = F.max_pool2d(large.diff(dim=-1).abs().amax(1, keepdim=True), 9, 1, 4) == 0
        roughness.append([(x.diff(dim=-1).abs().mean(1, keepdim=True) * flat).sum() for x in (ours, reference)])
    assert sum(gains) / len(gains) > 0.3
    mine, theirs = torch.tensor(roughness).sum(0)
    assert mine < 0.93 * theirs


def test_the_2x_restoring_network_is_the_reduced_4x_one(sample_image):
    small, large = (load_upscaler(model.path) for model in RESTORE)
    assert torch.allclose(small.model(sample_image), F.avg_pool2d(large.model(sample_image), 2), atol=1e-5)


def test_restoring_networks_leave_no_pattern_of_the_pixel_shuffle(restoring, dead_leaves):
    """The mean fine detail of each sub-pixel position is close to zero: no dot grid."""
    network, scale = load_upscaler(restoring.path), restoring.scale
    for image in dead_leaves:
        small, _ = make_lr_pair(image, scale)
        result = network(small)
        detail = result - F.interpolate(F.avg_pool2d(result, scale), scale_factor=scale, mode="bilinear")
        phases = detail.unfold(2, scale, scale).unfold(3, scale, scale).mean((0, 1, 2, 3))
        assert (phases - phases.mean()).abs().max() < 0.5 / 255


def test_uniform_gray_is_preserved(network):
    gray = torch.full((1, 3, 20, 24), 0.5)
    assert (load_upscaler(network.path)(gray) - 0.5).abs().max() < 0.01


def test_file_metadata_matches_the_recipe(network):
    recipe = read_config(bundled.WEIGHTS_FOLDER / f"{network.name.split('-')[1]}.toml")
    with safe_open(network.path, "pt") as file:
        metadata = file.metadata()
    assert (metadata["seed"], metadata["steps"], metadata["scale"]) == (
        str(recipe.seed),
        str(recipe.steps),
        str(network.scale),
    )
    config = load_upscaler(network.path).model.config
    assert (config.features, config.convs) == (recipe.network.features, recipe.network.convs)


def test_small_recipe_trains_on_the_same_photographs_and_validates_on_others():
    large, small = (read_config(bundled.WEIGHTS_FOLDER / f"{name}.toml") for name in ("calm", "small"))
    assert small.data.train == tuple(file for file in large.data.train if Path(file).parent.name == "backgrounds")
    [held_out] = large.data.validate
    assert all(Path(file).parent == Path(held_out) for file in small.data.validate)
    assert not any(Path(file).parent == Path(held_out) for file in small.data.train)
    assert (small.network.features, small.network.convs, small.network.scales) == (16, 6, (2,))
    assert (small.losses, small.degrade) == (replace(large.losses, shift_consistency=0.0), large.degrade)


def test_the_model_card_names_each_file(network):
    assert hashlib.sha256(network.path.read_bytes()).hexdigest() in CARD


def test_card_and_measurements_of_networks_for_clean_video_belong_to_the_files(clean):
    assert RESULTS["sha256"][clean.path.name] == hashlib.sha256(clean.path.read_bytes()).hexdigest()
    ours, reference = ROWS[clean.name], ROWS[f"bicubic-{clean.scale}x"]
    for row in (ours, reference):
        assert f"{row['photographs']['psnr_y']:.2f} / {row['photographs']['ssim_y']:.4f}" in CARD
    pairs = zip(ours["photographs"]["psnr_y_of_each"], reference["photographs"]["psnr_y_of_each"], strict=True)
    assert all(our_psnr > bicubic_psnr for our_psnr, bicubic_psnr in pairs), "better on every photograph"
    for name, clip in ours["clips"].items():
        bicubic_clip = reference["clips"][name]
        assert clip["psnr_y"] > bicubic_clip["psnr_y"], name
        for row in (clip, bicubic_clip):
            values = (row["psnr_y"], row["warping_error_1e6"], row["warping_error_of_what_differs_1e6"])
            assert " | ".join(f"{value:.2f}" for value in values) in CARD
        # Blur lowers the warping error of a frame, even below that of the ground truth. The warping error of the
        # difference from the ground truth is the flicker that upscaling adds.
        key = "warping_error_of_what_differs_1e6"
        assert clip[key] < bicubic_clip[key] or "calm" not in clean.name, name


def test_bundled_networks_need_no_download(network, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "fetch_wheel", lambda: pytest.fail("nothing may be downloaded"))
    assert zoo.find_weights(network.name) == zoo.fetch_weights(network.name) == network.path
    assert zoo.is_available(network.name)
    copy = zoo.fetch_weights(network.name, tmp_path / "elsewhere")
    assert copy == tmp_path / "elsewhere" / network.path.name
    assert copy.read_bytes() == network.path.read_bytes()


def test_default_network_depends_on_the_factor():
    names = {factor: zoo.select_bundled(factor).name for factor in (None, 1.5, 2, 2.1, 4, 8)}
    assert names == dict.fromkeys((None, 1.5, 2), "steadyscale-restore-2x") | dict.fromkeys(
        (2.1, 4, 8), "steadyscale-restore-4x"
    )


def test_earlier_names_are_those_of_the_same_files():
    assert zoo.find_weights("steadyscale-2x").name == "steadyscale-calm-2x.safetensors"
    assert zoo.find_weights("steadyscale-4x").name == "steadyscale-calm-4x.safetensors"
    assert zoo.is_available("steadyscale-4x")
