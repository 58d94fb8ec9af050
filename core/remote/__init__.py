"""Graphs on a ComfyUI somewhere else. In reading order: workflow, said, server, run."""
