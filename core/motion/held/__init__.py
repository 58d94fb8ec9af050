"""The motion of a layer or a subject, to hold it in place.

In reading order: layers, background, subject, masks, held_motion.
"""
