"""Access to the ComfyUI host: images, progress, cancel, memory, folders, text."""
