"""The first steps: a space for one's own table, what editors need, whether a machine will do."""
