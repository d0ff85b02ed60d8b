"""Clusters: files that describe one, what they cost, and running a sweep there."""
