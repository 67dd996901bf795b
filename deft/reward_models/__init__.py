"""Reward models: what they read, how they are trained and judged, and the folder that one is."""
