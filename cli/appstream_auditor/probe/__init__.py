"""`probe`: asks an account's AppStream what the documentation leaves open, with calls that only read.

`looking` decides what to ask, `calls` asks it, `counting` turns the answers into counts. A report holds
nothing else, so it can be posted.
"""
