"""The shard of an array task of SLURM and of an indexed job of Kubernetes."""

from __future__ import annotations

import pytest
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.scheduler import scheduled_shard


def slurm(index: int, count: int, first: int = 0) -> dict[str, str]:
    values = {"TASK_ID": index, "TASK_COUNT": count, "TASK_MIN": first, "TASK_MAX": first + count - 1}
    return {f"SLURM_ARRAY_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("environment", "count", "shard"),
    [
        ({}, None, None),
        ({}, 4, None),
        (slurm(2, 7), None, (2, 7)),
        (slurm(3, 7, first=1), None, (2, 7)),
        (slurm(7, 7, first=1), None, (6, 7)),
        (slurm(3, 2), 7, (3, 7)),  # failed tasks 1 and 3 of 7, run again
        (slurm(5, 2, first=3), None, None),  # --array=3,5
        ({"JOB_COMPLETION_INDEX": "2"}, 3, (2, 3)),
        ({"JOB_COMPLETION_INDEX": "2"}, None, None),
        ({"JOB_COMPLETION_INDEX": "3"}, 3, None),
        ({"JOB_COMPLETION_INDEX": ""}, 3, None),
    ],
)
def test_the_shard_of_a_task(environment: dict[str, str], count: int | None, shard, caplog):
    assert scheduled_shard(environment, count) == shard
    is_set = any(environment.values())
    assert ("takes whichever pieces are free" in caplog.text) == (is_set and shard is None)


def test_a_variable_that_is_no_number_is_an_error():
    with pytest.raises(ClipError, match=r"JOB_COMPLETION_INDEX is 'one'"):
        scheduled_shard({"JOB_COMPLETION_INDEX": "one"}, 2)
