"""A network on a device.

Its traits, a replica in a dtype, the engine that runs it, and the check of results.
"""
