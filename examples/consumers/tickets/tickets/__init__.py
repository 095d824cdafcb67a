"""Keeps one ticket per session episode in ServiceNow or Jira, from the events of the session auditor."""
