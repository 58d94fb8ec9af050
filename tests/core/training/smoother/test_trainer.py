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


def test_two_runs_of_one_seed_write_the_same_file_and_it_loads(tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        reports = list(train_path_net(SMALL, file))
        assert [report.step for report in reports] == list(range(1, 7))
        assert np.isfinite([report.losses["total"] for report in reports]).all()
    first, second = (load_path_smoother(file).state_dict() for file in files)
    assert all(torch.equal(first[key], second[key]) for key in first)
    begun = init_networks(SMALL.seed).state_dict()
    assert not any(torch.equal(first[key], begun[key]) for key in ("offline.layers.3.weight", "live.choice.weight"))


def test_another_seed_draws_other_paths():
    one, other = (draw_batch(np.random.default_rng(seed), SMALL) for seed in (0, 1))
    assert not torch.equal(one.path, other.path)


@pytest.mark.parametrize("which", ["offline", "live"])
def test_steps_lower_the_cost_of_paths_that_they_have_not_seen(which):
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
    optimiser, random = torch.optim.Adam(network.parameters(), settings.learning_rate), np.random.default_rng(0)
    for step in range(settings.steps):
        path_train_step(network, optimiser, draw_batch(random, settings), settings, step)
    assert cost() < before - 0.05


def test_the_closed_form_costs_one_where_there_is_room_enough():
    settings = PathTrainConfig(batch=7, frames=60, smoothness_weight=0.0)
    example = draw_batch(np.random.default_rng(3), settings)
    roomy = type(example)(example.path / 1e2, example.whittaker / 1e2, example.period, 0)
    assert torch.allclose(whittaker_paths(roomy.path, roomy.period), roomy.whittaker, atol=1e-9)
    assert (relative_costs(roomy.whittaker, roomy, settings) <= 1).all()
    worse = relative_costs(0.9 * roomy.whittaker, roomy, settings)
    assert (worse > relative_costs(roomy.whittaker, roomy, settings)).all()


def test_it_learns_where_the_caller_only_infers(tmp_path):
    with torch.inference_mode():
        assert len(list(train_path_net(PathTrainConfig(steps=1, batch=1, frames=20), tmp_path / "x.safetensors"))) == 2


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(TrainingError, match="1 step"):
        PathTrainConfig(steps=0)
