"""A sweep while it runs: what its ledger says, shown in a line, here or in another terminal."""
