"""Training of the path networks: reproducible, decreasing loss, valid weight file."""

import numpy as np
import pytest
import torch
from steadyscale.core.training import PathTrainConfig, TrainingError, train_path_net
from steadyscale.core.training.smoother.synthetic_paths import ASPECT
from steadyscale.core.training.smoother.trainer import (
    draw_batch,
    init_networks,
    path_train_step,
    relative_costs,
    whittaker_paths,
)
from steadyscale.models import load_path_smoother
from steadyscale.models.smoother.path_smoother import simulate_live

SMALL = PathTrainConfig(steps=3, batch=4, frames=40, max_period=30.0)


@pytest.mark.slow
def test_two_runs_of_one_seed_write_equal_files(tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        reports = list(train_path_net(SMALL, file))
        assert [report.step for report in reports] == list(range(1, 7))
        assert np.isfinite([report.losses["total"] for report in reports]).all()
    first, second = (load_path_smoother(file).state_dict() for file in files)
    assert all(torch.equal(first[key], second[key]) for key in first)
    initial = init_networks(SMALL.seed).state_dict()
    assert not any(torch.equal(first[key], initial[key]) for key in ("offline.layers.3.weight", "live.choice.weight"))


def test_another_seed_gives_other_paths():
    one, other = (draw_batch(np.random.default_rng(seed), SMALL) for seed in (0, 1))
    assert not torch.equal(one.path, other.path)


@pytest.mark.parametrize("which", ["offline", "live"])
@pytest.mark.slow
def test_training_lowers_the_loss_of_unseen_paths(which):
    settings = PathTrainConfig(steps=16, batch=6, frames=48, max_period=40.0, learning_rate=1e-2)
    network = getattr(init_networks(0), which)
    unseen = draw_batch(np.random.default_rng(99), settings)

    def cost():
        with torch.no_grad():
            if which == "offline":
                smooth = network(unseen.path, unseen.period, ASPECT)
            else:
                smooth = simulate_live(network, unseen.path, unseen.period, 5, ASPECT)
            return float(relative_costs(smooth, unseen, settings).log().mean())

    before = cost()
    optimizer, rng = torch.optim.Adam(network.parameters(), settings.learning_rate), np.random.default_rng(0)
    for step in range(settings.steps):
        path_train_step(network, optimizer, draw_batch(rng, settings), settings, step)
    assert cost() < before - 0.05


def test_the_closed_form_has_relative_cost_one_without_a_crop_limit():
    settings = PathTrainConfig(batch=7, frames=60, smoothness_weight=0.0)
    batch = draw_batch(np.random.default_rng(3), settings)
    unlimited = type(batch)(batch.path / 1e2, batch.whittaker / 1e2, batch.period, 0)
    assert torch.allclose(whittaker_paths(unlimited.path, unlimited.period), unlimited.whittaker, atol=1e-9)
    assert (relative_costs(unlimited.whittaker, unlimited, settings) <= 1).all()
    worse = relative_costs(0.9 * unlimited.whittaker, unlimited, settings)
    assert (worse > relative_costs(unlimited.whittaker, unlimited, settings)).all()


def test_training_works_within_inference_mode(tmp_path):
    with torch.inference_mode():
        assert len(list(train_path_net(PathTrainConfig(steps=1, batch=1, frames=20), tmp_path / "x.safetensors"))) == 2


def test_invalid_settings_are_refused():
    with pytest.raises(TrainingError, match="at least 1 step"):
        PathTrainConfig(steps=0)
