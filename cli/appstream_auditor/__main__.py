"""Where the command begins; `python -m appstream_auditor` is the same without its wheel."""

import sys


def run() -> None:
    """Run the command; Ctrl-C ends it quietly, while it is still being loaded, too."""
    try:
        from appstream_auditor.main import cli  # noqa: PLC0415 - it takes half a second

        cli(prog_name="appstream-auditor")
    except KeyboardInterrupt:
        # As a shell says of a program that was interrupted.
        sys.exit(130)


if __name__ == "__main__":
    run()
