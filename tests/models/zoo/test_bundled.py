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
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, load_upscaler
from steadyscale.models.zoo import bundled, zoo
from torch import nn

REPOSITORY = Path(__file__).parents[3]
CARD = (bundled.WEIGHTS_FOLDER / "README.md").read_text(encoding="utf-8")
RESULTS = json.loads((REPOSITORY / "bench/results/quality-epyc.json").read_text(encoding="utf-8"))
ROWS = {row["name"]: row for row in RESULTS["rows"]}


@pytest.fixture(params=zoo.BUNDLED_MODELS, ids=lambda network: network.name)
def network(request):
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
    animevideov3 = SRVGGNetCompact(SRVGGConfig())
    assert multiplications(ours.model) < 0.1 * multiplications(animevideov3)
    assert f"({round(ours.parameters_count / 1000)} k parameters)" in network.description


def test_networks_are_much_better_than_bicubic(network, dead_leaves):
    reference, ours = (
        score(upscaler, dead_leaves, network.scale)
        for upscaler in (bicubic(network.scale), load_upscaler(network.path))
    )
    assert reference.psnr > 25, "the test images are suitable"
    assert ours.psnr > reference.psnr + 1.5
    assert ours.ssim > reference.ssim + 0.005


def test_uniform_gray_is_preserved(network):
    gray = torch.full((1, 3, 20, 24), 0.5)
    assert (load_upscaler(network.path)(gray) - 0.5).abs().max() < 0.01


def test_file_metadata_matches_the_recipe(network):
    recipe = read_config(bundled.WEIGHTS_FOLDER / "recipe.toml")
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
    large, small = (read_config(bundled.WEIGHTS_FOLDER / f"{name}.toml") for name in ("recipe", "small"))
    assert small.data.train == tuple(file for file in large.data.train if Path(file).parent.name == "backgrounds")
    [held_out] = large.data.validate
    assert all(Path(file).parent == Path(held_out) for file in small.data.validate)
    assert not any(Path(file).parent == Path(held_out) for file in small.data.train)
    assert (small.network.features, small.network.convs, small.network.scales) == (16, 6, (2,))
    assert (small.losses, small.degrade) == (replace(large.losses, shift_consistency=0.0), large.degrade)


def test_model_card_and_measurements_belong_to_the_files(network):
    digest = hashlib.sha256(network.path.read_bytes()).hexdigest()
    assert RESULTS["sha256"][network.path.name] == digest
    assert digest in CARD
    ours, reference = ROWS[network.name], ROWS[f"bicubic-{network.scale}x"]
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
        assert clip[key] < bicubic_clip[key], name


def test_bundled_networks_need_no_download(network, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "fetch_wheel", lambda: pytest.fail("nothing may be downloaded"))
    assert zoo.find_weights(network.name) == zoo.fetch_weights(network.name) == network.path
    assert zoo.is_available(network.name)
    copy = zoo.fetch_weights(network.name, tmp_path / "elsewhere")
    assert copy == tmp_path / "elsewhere" / network.path.name
    assert copy.read_bytes() == network.path.read_bytes()


def test_default_network_depends_on_the_factor():
    names = {factor: zoo.select_bundled(factor).name for factor in (None, 1.5, 2, 2.1, 4, 8)}
    assert names == {None: "steadyscale-2x", 1.5: "steadyscale-2x", 2: "steadyscale-2x"} | dict.fromkeys(
        (2.1, 4, 8), "steadyscale-4x"
    )
