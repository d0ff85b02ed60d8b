"""``fatefront exits``: where images leave the nets of baseline ``multi_exit``."""
