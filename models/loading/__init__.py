"""Read weight files safely and build the network they belong to."""
