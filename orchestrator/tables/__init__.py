"""``fatefront tables``: sweeps in the layout of the paper, beside its published rows."""
