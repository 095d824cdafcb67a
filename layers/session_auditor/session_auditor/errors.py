"""The errors of the auditor. Their messages quote no item, no event and no answer: those hold user ids."""


class AuditorError(Exception):
    """Something that the auditor knows how to name."""


class SettingsError(AuditorError, ValueError):
    """A variable of the environment is missing or wrong; the message names it and what it should be."""


class TopologyError(AuditorError):
    """The stacks of the target cannot be read; `reason` is an error code of AWS, or one of ours."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the stacks of the target cannot be read ({reason}); the function needs appstream:DescribeStacks"
        )
        self.reason = reason


class CutShortError(AuditorError):
    """A paged answer did not arrive whole; `reason` is an error code of AWS, or one of ours.

    `final` if AWS would not answer another call either.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


class ItemError(AuditorError, ValueError):
    """An item of the table is broken, or a newer release wrote it."""


class SnapshotError(AuditorError):
    """The table is out of reach, or the target's own item cannot be read; the sweep cannot go on.

    `reason` is the error code of AWS, or one of ours, where it is the table that is out of reach.
    """

    def __init__(self, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason


class FencedError(AuditorError):
    """Another sweep has committed since the snapshot was read; what this one compared is void."""


class PoliciesError(AuditorError, ValueError):
    """A policies document cannot be applied; the message is one line: the path, what is wrong, the remedy."""


class NoticeError(AuditorError, ValueError):
    """What was received is no event of the auditor's; the message says so without quoting it."""
