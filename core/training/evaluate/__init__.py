"""Measure and compare trained models."""
