"""One ticket per session episode, in ServiceNow and in Jira."""
