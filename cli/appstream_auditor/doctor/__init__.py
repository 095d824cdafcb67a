"""`doctor`: checks whether a deployed auditor works, and says of each fault what to do.

A module for each kind of thing that is checked; `runner` chooses the checks, `report` shows what they found.
"""
