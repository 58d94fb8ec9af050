"""Devices that networks run on, and transfers to and from them."""
