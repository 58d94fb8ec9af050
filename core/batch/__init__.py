"""Process many clips: lists, tasks, executors, results and estimates.

In reading order: tasks, run_task, executor, local_executor, ray_executor, results, run.
"""
