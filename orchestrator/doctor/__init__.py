"""``fatefront doctor``: whether this machine can run sweeps, and what to do where it cannot."""
