"""Channels of a network as its graph ties them together, and their removal."""
