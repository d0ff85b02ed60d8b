class UserError(Exception):
    """A mistake of the user's: one line with the value, the limit and the place; exit code 2."""
