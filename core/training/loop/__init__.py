"""The training loop: state, step, checkpoints, validation, export."""
