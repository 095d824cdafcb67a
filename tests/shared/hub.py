"""A hub's table: two accounts below a unit, one by its number, each in two regions."""

from dataclasses import replace
from datetime import timedelta

from session_auditor import table as layout
from session_auditor.directory import Branch, Member
from session_auditor.hub import Hub
from session_auditor.model import Facts, Life, Remembered, Stored, Target, TargetId
from session_auditor.table import StoredTarget
from tests.shared.history import TARGET, at
from tests.shared.table import Table

UNIT = "ou-ab12-12345678"
RENDER, OFFICE, LONELY = "111111111111", "222222222222", "333333333333"
REGIONS = ("eu-west-1", "us-east-1")
NAMES = {RENDER: "render-farm", OFFICE: "office"}
PARAMETERS = {"Targets": f"{UNIT},{LONELY}", "TargetRegions": ",".join(REGIONS)}
NOW = at(600)
SWEPT = Target(at(0), NOW, NOW)


def target_id(account_id: str, region: str = REGIONS[0]) -> TargetId:
    return TargetId("aws", account_id, region)


def every_target() -> list[TargetId]:
    return [target_id(account_id, region) for account_id in (RENDER, OFFICE, LONELY) for region in REGIONS]


class HubTable:
    """The table of a hub whose targets were all swept just now."""

    name = "sessions"

    def __init__(self, table: Table) -> None:
        self.table = table

    def list_accounts(self, names: dict[str, str] = NAMES) -> None:
        """Put the list of accounts that the dispatcher keeps."""
        members = {account_id: Member(name) for account_id, name in names.items()}
        Hub(self.table.dynamodb, "sessions", TARGET).keep({UNIT: Branch(members, at(590))})

    def put(self, which: TargetId, target: Target = SWEPT, *sessions: Remembered) -> None:
        """Put what is remembered of a target, over what there was."""
        of = self._layout(which)
        self.table.put(of.put_target(0, StoredTarget(target, 1, (), (), 0, 1))["Put"]["Item"])
        for each in sessions:
            self.table.put(of.put_session(0, Stored(each, (), 1))["Put"]["Item"])

    def put_history(self, which: TargetId, life: Life) -> None:
        """Put a session that ended."""
        assert life.end
        self.table.put(self._layout(which).put_history(life, life.end, NOW)["Put"]["Item"])

    def put_facts(self, which: TargetId, facts: Facts) -> None:
        """Put what is known of the fleets of a target."""
        _, puts = self._layout(which).put_facts(facts)
        for each in puts:
            self.table.put(each["Put"]["Item"])

    def spoil(self, which: TargetId) -> None:
        """Make a target's item unreadable."""
        item = self._layout(which).put_target(0, StoredTarget(SWEPT, 1, (), (), 0, 1))["Put"]["Item"]
        self.table.put({**item, "schema": {"N": "99"}})

    def _layout(self, which: TargetId) -> layout.Table:
        return layout.Table("sessions", which, timedelta(days=90))


def swept_at(minute: float) -> Target:
    return replace(SWEPT, last_begin=at(minute), last_end=at(minute))
