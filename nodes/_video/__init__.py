"""VIDEO inputs and outputs that stream."""
