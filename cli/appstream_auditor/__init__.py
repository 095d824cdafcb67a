"""appstream-auditor: what people ask of the session auditor, answered in a terminal."""
