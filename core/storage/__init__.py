"""Storage: files on a disk, or objects in a store that fsspec reaches.

In reading order: location, local_storage, object_storage, open, copies.
"""
