"""The adapter to ComfyUI."""
