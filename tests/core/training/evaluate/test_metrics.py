"""Metrics: known values, the border and the rounding of the protocol, LPIPS."""

import math

import pytest
import torch
from steadyscale.core.training import TrainingError, bicubic, load_lpips, read_log, score, train
from steadyscale.core.training.evaluate.metrics import bt601_luma, make_lr_pair, score_image, ssim


def test_ssim_equals_that_of_torchmetrics(texture_factory):
    """An independent implementation; it is not a dependency of training."""
    image = pytest.importorskip("torchmetrics.functional.image")
    target = bt601_luma(texture_factory(3)[None, :, :90, :101].double() / 255)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for strength in (0.0, 3.0, 30.0):
        pred = target + noise * strength
        expected = float(image.structural_similarity_index_measure(pred, target, data_range=255.0))
        assert ssim(pred, target) == pytest.approx(expected, abs=1e-7)
    with pytest.raises(TrainingError, match="40x10 are left"):
        ssim(target[..., :10, :40], target[..., :10, :40])


def test_luma_of_primary_colors():
    colors = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).view(5, 3, 1, 1)
    assert bt601_luma(colors).flatten().tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-3)


def test_psnr_of_a_known_error():
    target = torch.full((1, 3, 32, 32), 100 / 255)
    pred = target + 10 / 255  # gray, so Y differs by 10 * 219 / 255
    expected = 20 * math.log10(255 / (10 * 219 / 255))
    assert score_image(pred, target, 2).psnr == pytest.approx(expected, abs=1e-4)
    assert score_image(pred + 0.4 / 255, target, 2).psnr == pytest.approx(expected, abs=1e-4)  # rounded to 8 bits
    assert score_image(target, target, 2).psnr == 100
    assert score_image(target, target, 2).ssim == pytest.approx(1)


def test_the_border_is_ignored(texture_factory):
    target = texture_factory(1)[None].float() / 255
    damaged = target.clone()
    damaged[..., :3, :] = damaged[..., -3:] = 0
    assert score_image(damaged, target, 3).psnr == 100
    assert score_image(damaged, target, 2).psnr < 40


def test_images_are_cropped_to_multiples_and_scores_averaged(texture_factory):
    images = [texture_factory(1)[:, :95, :101], texture_factory(2)]
    small, large = make_lr_pair(images[0], 4)
    assert (small.shape, large.shape) == ((1, 3, 23, 25), (1, 3, 92, 100))
    single = [score(bicubic(4), [image], 4).psnr for image in images]
    assert score(bicubic(4), images, 4).psnr == pytest.approx(sum(single) / 2)
    assert single[0] != pytest.approx(single[1], abs=0.01)
    black = score(lambda x: torch.zeros(1, 3, x.shape[2] * 4, x.shape[3] * 4), images, 4)
    assert black.psnr < min(single) - 5


@pytest.fixture
def random_alexnet(tmp_path, monkeypatch):
    """AlexNet with random convolutions in torchvision's download cache.

    The 58 million weights of its last layers, which LPIPS does not use, are zeros without storage.
    """
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
def test_lpips_is_zero_for_equal_images_only(random_alexnet, texture_factory):
    metric = load_lpips()
    target = texture_factory(1)[None].float() / 255
    noisy = (target + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert float(metric(target, target)) == pytest.approx(0, abs=1e-6)
    assert float(metric(noisy, target)) > 1e-4
    assert float(metric(target, target)) == pytest.approx(0, abs=1e-6), "calls are independent"
    assert score(bicubic(2), [texture_factory(1)], 2).lpips is None
    assert score(bicubic(2), [texture_factory(1)], 2, metric=metric).lpips > 1e-4


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_measures_lpips_if_the_settings_say_so(random_alexnet, make_config):
    config = make_config(steps=1, output={"lpips": True})
    [report] = train(config)
    assert report.scores[2].lpips > 1e-4
    assert read_log(config.folder)[0]["lpips/2x"] == pytest.approx(report.scores[2].lpips, rel=1e-4)


def test_missing_lpips_weights_are_reported_before_the_first_step(make_config, tmp_path, monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "empty"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(TrainingError, match=r"no AlexNet weights here .*no network.* output\.lpips"):
        next(train(make_config(output={"lpips": True})))
