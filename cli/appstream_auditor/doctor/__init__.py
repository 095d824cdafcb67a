"""`doctor`: whether the auditor works, check by check, and what to do where it does not."""
