"""Read video files: demux, decode, timestamps, corruption."""
