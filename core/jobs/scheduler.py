"""The shard that SLURM or Kubernetes gives to this process."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..clip import ClipError

log = logging.getLogger(__name__)


def scheduled_shard(environment: Mapping[str, str], count: int | None = None) -> tuple[int, int] | None:
    """Return the shard (index, count) that a scheduler states.

    None where the variables do not state it, so that pieces are to be claimed.
    SLURM: SLURM_ARRAY_TASK_ID, counted from SLURM_ARRAY_TASK_MIN, of SLURM_ARRAY_TASK_COUNT. Kubernetes:
    JOB_COMPLETION_INDEX, of `count`, which Kubernetes does not state. count: the number of shards, counted from 0, in
    place of SLURM's. An array with gaps, such as one of failed tasks only, has no such shards: then None, which is
    logged. Raises ClipError for variables that are no numbers.
    """
    index = _read(environment, "SLURM_ARRAY_TASK_ID")
    if index is not None:
        first = 0 if count is not None else _read(environment, "SLURM_ARRAY_TASK_MIN") or 0
        return _shard(index - first, count or _read(environment, "SLURM_ARRAY_TASK_COUNT"), "SLURM_ARRAY_TASK_ID")
    index = _read(environment, "JOB_COMPLETION_INDEX")
    return None if index is None else _shard(index, count, "JOB_COMPLETION_INDEX")


def _shard(index: int, count: int | None, name: str) -> tuple[int, int] | None:
    if count is not None and 0 <= index < count:
        return index, count
    reason = "the number of shards is not stated" if count is None else f"it has no place among {count} shards"
    log.warning("%s is set, but %s, so this process takes whichever pieces are free", name, reason)
    return None


def _read(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    if not value:
        return None
    try:
        return int(value)
    except ValueError as e:
        raise ClipError(f"the environment variable {name} is {value!r}, which is no whole number; unset it") from e
