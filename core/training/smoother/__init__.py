"""Train the learned path smoother on synthetic paths."""
