"""A job in steps, on any number of machines: measuring, plan, shards, join."""

from .join import join_job
from .measure import measure_job
from .plan import plan_job
from .report import MeasureReport, ShardReport
from .shard import run_shard

__all__ = ["MeasureReport", "ShardReport", "join_job", "measure_job", "plan_job", "run_shard"]
