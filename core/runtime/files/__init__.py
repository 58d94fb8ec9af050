"""Files and folders: atomic writes, locks, the user's cache."""
