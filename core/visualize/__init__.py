"""Pictures for people. In reading order: labels, drawn, arrows, overlay, comparison."""
