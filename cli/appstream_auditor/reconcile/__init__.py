"""`reconcile`: how much of a day the auditor saw, by AWS's own usage report of it.

`usage_report` reads a report, `matching` compares it with our history: both are plain data. `bucket` finds a
report, `answer` is what is said, and `command` is what people type.
"""
