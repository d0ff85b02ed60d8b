"""Trials on Ray: sessions, workers, packing of GPUs."""
