"""Trials whose machine was taken back after a notice: that says nothing about them, however often
it happens. What they had trained is in their checkpoint.
"""

PREEMPTED = "Preempted"
"""Type of the error."""
