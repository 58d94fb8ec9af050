"""Scores: values that can be worked out, and the protocol's border and rounding."""

import math

import pytest
import torch
from steadyscale.core.training import TrainingError, bicubic, load_lpips, read_log, score, train
from steadyscale.core.training.evaluate.metrics import bt601_luma, make_lr_pair, score_image, ssim


def test_ssim_is_that_of_torchmetrics(texture_factory):
    """An implementation by other people; it is too large to ask of everybody who trains."""
    image = pytest.importorskip("torchmetrics.functional.image")
    true = bt601_luma(texture_factory(3)[None, :, :90, :101].double() / 255)
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for strength in (0.0, 3.0, 30.0):
        made = true + noise * strength
        expected = float(image.structural_similarity_index_measure(made, true, data_range=255.0))
        assert ssim(made, true) == pytest.approx(expected, abs=1e-7)
    with pytest.raises(TrainingError, match="40x10 are left"):
        ssim(true[..., :10, :40], true[..., :10, :40])


def test_luma_is_that_of_bt601():
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).view(5, 3, 1, 1)
    assert bt601_luma(colours).flatten().tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-3)


def test_psnr_of_a_known_error():
    true = torch.full((1, 3, 32, 32), 100 / 255)
    made = true + 10 / 255  # grey, so Y differs by 10 * 219 / 255
    expected = 20 * math.log10(255 / (10 * 219 / 255))
    assert score_image(made, true, 2).psnr == pytest.approx(expected, abs=1e-4)
    assert score_image(made + 0.4 / 255, true, 2).psnr == pytest.approx(expected, abs=1e-4)  # rounded to 8 bits
    assert score_image(true, true, 2).psnr == 100
    assert score_image(true, true, 2).ssim == pytest.approx(1)


def test_the_border_does_not_count(texture_factory):
    true = texture_factory(1)[None].float() / 255
    spoiled = true.clone()
    spoiled[..., :3, :] = spoiled[..., -3:] = 0
    assert score_image(spoiled, true, 3).psnr == 100
    assert score_image(spoiled, true, 2).psnr < 40


def test_pictures_are_cut_to_multiples_and_averaged(texture_factory):
    pictures = [texture_factory(1)[:, :95, :101], texture_factory(2)]
    small, large = make_lr_pair(pictures[0], 4)
    assert (small.shape, large.shape) == ((1, 3, 23, 25), (1, 3, 92, 100))
    each = [score(bicubic(4), [picture], 4).psnr for picture in pictures]
    assert score(bicubic(4), pictures, 4).psnr == pytest.approx(sum(each) / 2)
    assert each[0] != pytest.approx(each[1], abs=0.01)
    black = score(lambda x: torch.zeros(1, 3, x.shape[2] * 4, x.shape[3] * 4), pictures, 4)
    assert black.psnr < min(each) - 5


@pytest.fixture
def untaught(tmp_path, monkeypatch):
    """AlexNet with random convolutions, where torchvision keeps what it has downloaded. The 58 million weights of its
    last layers, which LPIPS never asks, are one zero each."""
    from torchvision.models import alexnet

    torch.manual_seed(3)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in alexnet().state_dict().items()}
    state = {
        key: torch.randn(shape) * 0.05 if key.startswith("features") else torch.zeros(1).expand(shape)
        for key, shape in shapes.items()
    }
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints/alexnet-owt-7be5be79.pth")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lpips_tells_what_looks_different(untaught, texture_factory):
    judge = load_lpips()
    true = texture_factory(1)[None].float() / 255
    noisy = (true + 0.1 * torch.randn(true.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert float(judge(true, true)) == pytest.approx(0, abs=1e-6)
    assert float(judge(noisy, true)) > 1e-4
    assert float(judge(true, true)) == pytest.approx(0, abs=1e-6), "earlier calls leave nothing behind"
    assert score(bicubic(2), [texture_factory(1)], 2).lpips is None
    assert score(bicubic(2), [texture_factory(1)], 2, metric=judge).lpips > 1e-4


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_measures_lpips_where_it_is_asked_to(untaught, make_config):
    config = make_config(steps=1, keeping={"lpips": True})
    [report] = train(config)
    assert report.scores[2].lpips > 1e-4
    assert read_log(config.folder)[0]["lpips/2x"] == pytest.approx(report.scores[2].lpips, rel=1e-4)


def test_without_its_weights_lpips_says_so_before_the_first_step(make_config, tmp_path, monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "empty"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(TrainingError, match=r"no AlexNet weights here .*no network.* keeping\.lpips"):
        next(train(make_config(keeping={"lpips": True})))
