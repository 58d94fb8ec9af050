"""Run workflows on a ComfyUI server.

In reading order: workflow, messages, client, run.
"""
