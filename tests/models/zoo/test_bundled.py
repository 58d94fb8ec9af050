"""The networks that come with the package: here without a download, small, true, and as their card says."""

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
def leaves():
    """(3, 256, 256), uint8, three of them: overlapping round shapes of many sizes, as things in photographs overlap,
    with clean edges. No picture that anybody trains on looks like it."""
    random = torch.Generator().manual_seed(11)
    y, x = torch.meshgrid(torch.arange(1024.0), torch.arange(1024.0), indexing="ij")
    pictures = []
    for _ in range(3):
        picture = torch.rand(3, 1, 1, generator=random).expand(3, 1024, 1024).clone()
        for _ in range(120):
            row, column, size, *colour = torch.rand(6, generator=random).tolist()
            inside = torch.hypot(y - 1024 * row, x - 1024 * column) < 16 / (0.06 + size)
            picture = torch.where(inside, torch.tensor(colour)[:, None, None], picture)
        pictures.append((F.avg_pool2d(picture[None], 4)[0] * 255).round().byte())
    return pictures


def multiplications(network: nn.Module) -> int:
    """For an input pixel; all convolutions of these networks work at input size."""
    return sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, nn.Conv2d))


def test_they_are_small_and_load_strictly_here_and_elsewhere(network, picture):
    assert network.path.stat().st_size < 2_000_000
    ours, theirs = load_upscaler(network.path), ModelLoader().load_from_file(network.path)
    assert (ours.scale, ours.architecture) == (network.scale, network.architecture)
    assert theirs.scale == network.scale
    assert torch.allclose(ours(picture), theirs(picture).clamp(0, 1), atol=1e-5)
    known = SRVGGNetCompact(SRVGGConfig())  # the shape of realesr-animevideov3
    assert multiplications(ours.model) < 0.1 * multiplications(known)
    assert f"({round(ours.parameters_count / 1000)} k parameters)" in network.about


def test_they_are_better_than_bicubic_by_far(network, leaves):
    least, ours = (score(way, leaves, network.scale) for way in (bicubic(network.scale), load_upscaler(network.path)))
    assert least.psnr > 25, "the pictures are what they are meant to be"
    assert ours.psnr > least.psnr + 1.5
    assert ours.ssim > least.ssim + 0.005


def test_even_grey_stays_what_it_is(network):
    grey = torch.full((1, 3, 20, 24), 0.5)
    assert (load_upscaler(network.path)(grey) - 0.5).abs().max() < 0.01


def test_what_the_file_says_of_itself_is_the_recipe(network):
    recipe = read_config(bundled.WEIGHTS_FOLDER / "recipe.toml")
    with safe_open(network.path, "pt") as file:
        facts = file.metadata()
    assert (facts["seed"], facts["steps"], facts["scale"]) == (str(recipe.seed), str(recipe.steps), str(network.scale))
    config = load_upscaler(network.path).model.config
    assert (config.features, config.convs) == (recipe.network.features, recipe.network.convs)


def test_the_small_recipe_learns_from_the_same_photographs_and_is_judged_by_others():
    large, small = (read_config(bundled.WEIGHTS_FOLDER / f"{name}.toml") for name in ("recipe", "small"))
    assert small.data.train == tuple(file for file in large.data.train if Path(file).parent.name == "backgrounds")
    [held_out] = large.data.validate
    assert all(Path(file).parent == Path(held_out) for file in small.data.validate)
    assert not any(Path(file).parent == Path(held_out) for file in small.data.train)
    assert (small.network.features, small.network.convs, small.network.scales) == (16, 6, (2,))
    assert (small.losses, small.degrade) == (replace(large.losses, steady=0.0), large.degrade)


def test_the_card_and_the_measurements_are_of_these_very_files(network):
    found = hashlib.sha256(network.path.read_bytes()).hexdigest()
    assert RESULTS["sha256"][network.path.name] == found
    assert found in CARD
    ours, least = ROWS[network.name], ROWS[f"bicubic-{network.scale}x"]
    for row in (ours, least):
        assert f"{row['photographs']['psnr_y']:.2f} / {row['photographs']['ssim_y']:.4f}" in CARD
    each = zip(ours["photographs"]["psnr_y_of_each"], least["photographs"]["psnr_y_of_each"], strict=True)
    assert all(mine > plain for mine, plain in each), "on every photograph"
    for name, clip in ours["clips"].items():
        plain = least["clips"][name]
        assert clip["psnr_y"] > plain["psnr_y"], name
        for row in (clip, plain):
            values = (row["psnr_y"], row["warping_error_1e6"], row["warping_error_of_what_differs_1e6"])
            assert " | ".join(f"{value:.2f}" for value in values) in CARD
        # Blur lowers the error of a whole picture, also below the truth's; of what differs from the truth, it says what
        # enlarging adds.
        assert clip["warping_error_of_what_differs_1e6"] < plain["warping_error_of_what_differs_1e6"], name


def test_they_are_found_without_a_network(network, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "fetch_wheel", lambda: pytest.fail("nothing is downloaded"))
    assert zoo.find_weights(network.name) == zoo.fetch_weights(network.name) == network.path
    assert zoo.is_available(network.name)
    copy = zoo.fetch_weights(network.name, tmp_path / "elsewhere")
    assert copy == tmp_path / "elsewhere" / network.path.name
    assert copy.read_bytes() == network.path.read_bytes()


def test_the_factor_decides_which_one_serves():
    names = {factor: zoo.select_bundled(factor).name for factor in (None, 1.5, 2, 2.1, 4, 8)}
    assert names == {None: "steadyscale-2x", 1.5: "steadyscale-2x", 2: "steadyscale-2x"} | dict.fromkeys(
        (2.1, 4, 8), "steadyscale-4x"
    )
