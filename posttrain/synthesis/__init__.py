"""Rollouts -> training data."""
