"""Experiment trackers: TensorBoard, Weights & Biases and MLflow.

They get the values of the log. The libraries are extras. A run that is resumed goes on under its own name in each of
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ...runtime.files.atomic_write import atomic_path
from ..config.renamed_keys import flatten
from ..config.schema import TrainConfig, strip_folders
from ..config.toml_dataclass import to_table
from ..errors import TrainingError

IDS_FILE = "trackers.json"  # in the run's folder: the name of the run in each tracker
MLFLOW_MAX_TEXT = 500  # characters of a parameter


class Tracker(Protocol):
    """Writer of the values of a step."""

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by name, such as "loss/pixel", for a step."""
        ...

    def close(self) -> None:
        """Flush buffered values and end the log."""
        ...


def open_trackers(config: TrainConfig, step: int, stack: ExitStack) -> list[Tracker]:
    """Open the trackers that the settings name, and close them with `stack`.

    Values of steps after `step`, of an interrupted process, are replaced. Raises TrainingError if a library is missing
    or refuses.
    """
    trackers: list[Tracker] = []
    for tracker in _open_each(config, step):
        stack.callback(tracker.close)
        trackers.append(tracker)
    return trackers


def _open_each(config: TrainConfig, step: int) -> Iterator[Tracker]:
    if config.output.tensorboard:
        yield _TensorBoard(config.folder, step)
    if config.output.wandb:
        yield _WandB(config)
    if config.output.mlflow:
        yield _MLflow(config)


class _TensorBoard:
    def __init__(self, folder: Path, step: int) -> None:
        writer = _import("torch.utils.tensorboard", "output.tensorboard", "train").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"), purge_step=step + 1)

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, config: TrainConfig) -> None:
        wandb = _import("wandb", "output.wandb", "wandb")
        try:
            self._run = wandb.init(
                project=config.output.wandb,
                name=config.name,
                id=_read_id(config.folder, "wandb"),
                resume="allow",
                dir=str(config.folder),
                config=to_table(strip_folders(config)),
            )
        except wandb.errors.Error as error:
            raise TrainingError(f"output.wandb: Weights & Biases refuses the run ({error})") from error
        _write_id(config.folder, "wandb", self._run.id)

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, config: TrainConfig) -> None:
        mlflow = _import("mlflow", "output.mlflow", "mlflow")
        try:
            client = mlflow.MlflowClient()
            known = _read_id(config.folder, "mlflow")
            if known is None:
                experiment = mlflow.set_experiment(config.output.mlflow)
                known = client.create_run(experiment.experiment_id, run_name=config.name).info.run_id
                for key, value in flatten(to_table(strip_folders(config))):
                    client.log_param(known, key, str(value)[:MLFLOW_MAX_TEXT])
        except mlflow.MlflowException as error:
            raise TrainingError(f"output.mlflow: MLflow refuses the run ({error})") from error
        self._client, self._run_id = client, known
        _write_id(config.folder, "mlflow", known)

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def _import(name: str, setting: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        library = name.rpartition(".")[2]
        raise TrainingError(f"{setting} needs {library} ({error}): pip install 'steadyscale[{extra}]'") from error


def _read_id(folder: Path, tracker: str) -> str | None:
    path = folder / IDS_FILE
    return json.loads(path.read_text(encoding="utf-8")).get(tracker) if path.exists() else None


def _write_id(folder: Path, tracker: str, run_id: str) -> None:
    path = folder / IDS_FILE
    ids: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    with atomic_path(path) as partial:
        partial.write_text(json.dumps({**ids, tracker: run_id}), encoding="utf-8")
