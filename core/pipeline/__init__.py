"""What can be done to a clip, as data that runs when the clip is read: operation says what all have, each other file is
one: calm is the smallest. A recipe is a list of them.
"""
