"""`python -m appstream_auditor`: the command without its wheel."""

from appstream_auditor.main import cli

cli(prog_name="appstream-auditor")
