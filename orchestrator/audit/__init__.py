"""``fatefront audit``: every FATE of a printed table computed again."""
