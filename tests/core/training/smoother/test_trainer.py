import numpy as np
import pytest
import torch
from steadyscale.core.training import PathTraining, TrainingError, train_path_net
from steadyscale.core.training.smoother.synthetic_paths import ASPECT
from steadyscale.core.training.smoother.trainer import advance, closed_form, costs, drawn, fresh
from steadyscale.models import load_path_smoother
from steadyscale.models.smoother.path_smoother import drive

SMALL = PathTraining(steps=3, batch=4, frames=40, longest=30.0)


def test_two_runs_of_one_seed_write_the_same_file_and_it_loads(tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        reports = list(train_path_net(SMALL, file))
        assert [report.step for report in reports] == list(range(1, 7))
        assert np.isfinite([report.losses["total"] for report in reports]).all()
    first, second = (load_path_smoother(file).state_dict() for file in files)
    assert all(torch.equal(first[key], second[key]) for key in first)
    begun = fresh(SMALL.seed).state_dict()
    assert not any(torch.equal(first[key], begun[key]) for key in ("offline.layers.3.weight", "live.choice.weight"))


def test_another_seed_draws_other_paths():
    one, other = (drawn(np.random.default_rng(seed), SMALL) for seed in (0, 1))
    assert not torch.equal(one.path, other.path)


@pytest.mark.parametrize("which", ["offline", "live"])
def test_steps_lower_the_cost_of_paths_that_they_have_not_seen(which):
    settings = PathTraining(steps=16, batch=6, frames=48, longest=40.0, rate=1e-2)
    network = getattr(fresh(0), which)
    unseen = drawn(np.random.default_rng(99), settings)

    def cost():
        with torch.no_grad():
            if which == "offline":
                smooth = network(unseen.path, unseen.period, ASPECT)
            else:
                smooth = drive(network, unseen.path, unseen.period, 5, ASPECT)
            return float(costs(smooth, unseen, settings).log().mean())

    before = cost()
    optimiser, random = torch.optim.Adam(network.parameters(), settings.rate), np.random.default_rng(0)
    for step in range(settings.steps):
        advance(network, optimiser, drawn(random, settings), settings, step)
    assert cost() < before - 0.05


def test_the_closed_form_costs_one_where_there_is_room_enough():
    settings = PathTraining(batch=7, frames=60, smoothness=0.0)
    example = drawn(np.random.default_rng(3), settings)
    roomy = type(example)(example.path / 1e2, example.plain / 1e2, example.period, 0)
    assert torch.allclose(closed_form(roomy.path, roomy.period), roomy.plain, atol=1e-9)
    assert (costs(roomy.plain, roomy, settings) <= 1).all()
    worse = costs(0.9 * roomy.plain, roomy, settings)
    assert (worse > costs(roomy.plain, roomy, settings)).all()


def test_it_learns_where_the_caller_only_infers(tmp_path):
    with torch.inference_mode():
        assert len(list(train_path_net(PathTraining(steps=1, batch=1, frames=20), tmp_path / "x.safetensors"))) == 2


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(TrainingError, match="1 step"):
        PathTraining(steps=0)
