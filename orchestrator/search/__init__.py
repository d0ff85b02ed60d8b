"""Which trial comes next: the tree of trials, samplers, racing, stopping, budgets."""
