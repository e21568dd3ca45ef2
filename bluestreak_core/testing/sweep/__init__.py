"""Crashing everywhere."""
