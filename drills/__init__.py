"""Drills: what the documents promise for the day something fails, done to real processes.

`make drill` runs them all and prints what was counted. Each has a counter-test, which must show
the fault that the drill would miss otherwise.
"""
