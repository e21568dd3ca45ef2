"""Workflows in virtual time."""
