"""``fatefront merge``: slices of a sweep that ran apart become one."""
