"""Dissolves and fades between scenes."""
