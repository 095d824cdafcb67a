"""Measures the auditor beside what bounds it and what it replaces, in one run on the same services."""
