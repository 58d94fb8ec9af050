"""What every package uses: buffers, threads, files written atomically, optional imports."""
