"""Image sequences as clips."""
