"""How sure a sweep's figures are: intervals, contrasts with controls, membership."""
