"""``fatefront evaluate`` and ``predict``: figures of any model, and how sure they are."""
