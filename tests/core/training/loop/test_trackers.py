"""Trackers get what the log gets, under the run's own name after a resume, and a missing library is one clear line."""

import sys
from contextlib import ExitStack
from types import ModuleType, SimpleNamespace

import pytest
from steadyscale.core.training import TrainingError, read_log, train
from steadyscale.core.training.loop import trackers


def test_tensorboard_gets_the_same_values(make_config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = make_config(output={"tensorboard": True})
    with ExitStack() as stack:
        (tracker,) = trackers.open_trackers(config, 0, stack)
        tracker.log_values(7, {"loss/pixel": 0.5})
    events = EventAccumulator(str(config.folder / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/pixel")] == [(7, 0.5)]


@pytest.mark.parametrize(
    ("setting", "module", "fix"),
    [
        ("tensorboard", "torch.utils.tensorboard", r"tensorboard .*: pip install 'steadyscale\[train\]'"),
        ("wandb", "wandb", r"wandb .*: pip install 'steadyscale\[wandb\]'"),
        ("mlflow", "mlflow", r"mlflow .*: pip install 'steadyscale\[mlflow\]'"),
    ],
)
def test_a_missing_library_is_named(make_config, monkeypatch, setting, module, fix):
    monkeypatch.setitem(sys.modules, module, None)
    config = make_config(output={setting: True if setting == "tensorboard" else "project"})
    with pytest.raises(TrainingError, match=f"output.{setting} needs {fix}"), ExitStack() as stack:
        trackers.open_trackers(config, 0, stack)


class Service:
    """What a server of Weights & Biases and one of MLflow would have stored."""

    def __init__(self):
        self.runs, self.values, self.settings, self.finished = [], [], {}, 0

    def finish(self, _run_id=None):
        self.finished += 1

    def create(self, run_id=None):
        self.runs.append(run_id or f"run{len(self.runs)}")
        return self.runs[-1]


@pytest.fixture
def wandb(monkeypatch) -> Service:
    service, module = Service(), ModuleType("wandb")

    def init(*, project, name, id, resume, dir, config):  # the names of the library
        assert (project, name, resume) == ("clips", "toy", "allow")
        service.settings = config
        return SimpleNamespace(
            id=service.create(id),
            log=lambda values, step: service.values.append((step, values)),
            finish=service.finish,
        )

    module.init, module.errors = init, SimpleNamespace(Error=RuntimeError)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return service


@pytest.fixture
def mlflow(monkeypatch) -> Service:
    service, module = Service(), ModuleType("mlflow")
    steps = {}

    def log_metric(_run_id, name, value, step):
        if step not in steps:
            steps[step] = {}
            service.values.append((step, steps[step]))
        steps[step][name] = value

    client = SimpleNamespace(
        create_run=lambda _experiment, run_name: SimpleNamespace(info=SimpleNamespace(run_id=service.create())),
        log_param=lambda _run_id, key, value: service.settings.__setitem__(key, value),
        log_metric=log_metric,
        set_terminated=service.finish,
    )
    module.MlflowClient, module.MlflowException = lambda: client, RuntimeError
    module.set_experiment = lambda name: SimpleNamespace(experiment_id=name)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return service


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_a_resumed_run_goes_on_under_its_own_name(make_config, request, tracker):
    service = request.getfixturevalue(tracker)
    output = {tracker: "clips", "samples": 0, "validate_every": 100, "checkpoint_every": 2}
    config = make_config(output=output, data={"validate": []}, steps=4)
    run = train(config)
    assert [next(run).step, next(run).step] == [1, 2]
    run.close()
    list(train(config, resume=True))
    assert service.finished == 2
    assert [step for step, _ in service.values] == [1, 2, 3, 4]
    assert service.settings
    names = {key for line in read_log(config.folder) for key in line} - {"step"}
    assert all(set(values) == names for _, values in service.values)
    assert len(set(service.runs)) == 1
    if tracker == "mlflow":
        assert service.settings["data.crop"] == "32"
    else:
        assert service.settings["data"]["crop"] == 32
