"""Which trials may exist: typed functions that return a SweepSpec, and the words they are written
in.
"""
