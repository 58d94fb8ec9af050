"""Write video files: codecs, stream copy, remux."""
