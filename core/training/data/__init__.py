"""Training data: sources, crops, degradations."""
