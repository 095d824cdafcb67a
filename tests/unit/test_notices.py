"""What people are told of a batch: how many messages, of what, in which order, with which words."""

import json
from dataclasses import replace
from typing import Any

import pytest

from session_auditor.errors import NoticeError
from session_auditor.model import DetailType
from session_auditor.notices import (
    SINGLES,
    Message,
    Notice,
    Tone,
    messages,
    tone_of,
)
from tests.shared.events import envelope as received
from tests.shared.events import whole_life
from tests.shared.notices import envelope


def notice(*arguments: Any, **options: Any) -> Notice:
    return Notice.of(envelope(*arguments, **options))


def told(*notices: Notice, several_targets: bool = False) -> tuple[Message, ...]:
    return messages(notices, several_targets=several_targets)


class TestSingles:
    def test_up_to_three_of_a_detail_type_are_a_message_each(self) -> None:
        batch = [notice(number, kind) for number, kind in enumerate([*DetailType] * SINGLES)]
        assert len(told(*batch)) == len(batch)

    def test_it_says_what_where_and_until_when(self) -> None:
        (message,) = told(notice(7))
        assert message.heading == "AppStream Session Expiring on stack office, fleet cad"
        assert message.lines == ("The session of “user7@example.com” on stack office, fleet cad ends soon",)
        assert message.remark == (
            "Session since 2026-03-02 08:30 UTC, until 2026-03-02 15:00 UTC at the latest (MAX_DURATION)"
        )
        assert message.id == f"{7:032x}"

    @pytest.mark.parametrize(
        ("name", "where"),
        [
            pytest.param("render-farm", "account render-farm (123456789012), region eu-west-1", id="a name"),
            pytest.param("", "account 123456789012, region eu-west-1", id="none"),
            pytest.param(
                "[x](://y) <!here>", "account (x)(//y) (!here) (123456789012), region", id="hostile"
            ),
        ],
    )
    def test_an_account_has_a_name_if_that_is_known(self, name: str, where: str) -> None:
        batches = [[notice()], [notice(number) for number in range(4)]]
        for batch in batches:
            (message,) = messages(batch, several_targets=True, accounts={"123456789012": name})
            assert where in "\n".join([message.heading, *message.lines])

    def test_where_there_are_several_targets_it_says_which(self) -> None:
        (message,) = told(notice(), several_targets=True)
        assert message.heading.endswith("on stack office, fleet cad, account 123456789012, region eu-west-1")

    def test_an_event_of_the_whole_target_names_the_target(self) -> None:
        (message,) = told(notice(1, DetailType.AUDIT_DEGRADED, stack="", fleet=""))
        assert message.heading == "AppStream Audit Degraded in account 123456789012, region eu-west-1"

    def test_an_event_of_a_fleet_names_the_fleet(self) -> None:
        (message,) = told(notice(1, DetailType.FLEET_FAULTED))
        assert message.heading == "AppStream Fleet Faulted on fleet cad"
        (message,) = told(notice(1, DetailType.FLEET_RECOVERED), several_targets=True)
        target = "account 123456789012, region eu-west-1"
        assert message.heading == f"AppStream Fleet Recovered on fleet cad, {target}"

    @pytest.mark.parametrize("kind", DetailType)
    def test_an_event_of_before_the_update_is_understood(self, kind: DetailType) -> None:
        """It lacks the facts of the fleet and the tags; it may wait in the queue during the update."""
        event = received(whole_life()[kind])
        now = Notice.of(event)
        del event["detail"]["data"]["fleet"], event["detail"]["data"]["tags"]
        assert Notice.of(event) == now

    def test_what_is_there_twice_is_told_once(self) -> None:
        assert len(told(notice(1), notice(1))) == 1

    def test_they_come_in_the_order_of_time(self) -> None:
        batch = [
            notice(3, DetailType.ENDED, minute=2),
            notice(1, DetailType.STARTED, minute=0),
            notice(2, DetailType.CONNECTED, minute=1),
        ]
        assert [message.id[-1] for message in told(*batch)] == ["1", "2", "3"]

    def test_those_of_one_sweep_come_as_they_are_numbered(self) -> None:
        violated = replace(notice(1, DetailType.POLICY_VIOLATED), sequence=2)
        started = replace(notice(2, DetailType.STARTED), sequence=1)
        assert [message.detail_type for message in told(violated, started)] == [
            DetailType.STARTED,
            DetailType.POLICY_VIOLATED,
        ]


class TestDigest:
    def test_more_than_three_are_counted_by_stack_and_fleet(self) -> None:
        batch = [notice(number, fleet="cad" if number < 31 else "gis") for number in range(41)]
        (message,) = told(*batch)
        assert message.heading == "AppStream Session Expiring: 41 sessions"
        assert message.lines[:2] == ("31 on stack office, fleet cad", "10 on stack office, fleet gis")
        assert message.lines[2].startswith("“user0@example.com”, “user1@example.com”, ")
        assert message.lines[2].endswith(" and 31 more")
        assert message.lines[2].count("“") == 10

    def test_another_detail_type_in_the_batch_is_told_as_richly_as_ever(self) -> None:
        batch = [notice(number) for number in range(50)]
        digest, single = told(*batch, notice(99, DetailType.ABANDONED, minute=1))
        assert digest.heading == "AppStream Session Expiring: 50 sessions"
        assert single.lines[0].startswith("The session of “user99@example.com”")

    def test_of_many_fleets_the_fullest_are_named(self) -> None:
        batch = [notice(number, fleet=f"fleet-{number % 13}") for number in range(13 * 4 + 1)]
        (message,) = told(*batch)
        assert message.lines[0] == "5 on stack office, fleet fleet-0"
        assert message.lines[10] == "12 on 3 more"
        assert len(message.lines) == 12

    def test_fleets_of_one_name_in_two_regions_are_two(self) -> None:
        batch = [notice(number, region=f"eu-west-{1 + number % 2}") for number in range(4)]
        (message,) = told(*batch, several_targets=True)
        assert message.lines[:2] == (
            "2 on stack office, fleet cad, account 123456789012, region eu-west-1",
            "2 on stack office, fleet cad, account 123456789012, region eu-west-2",
        )

    def test_a_user_of_several_sessions_is_named_once(self) -> None:
        (message,) = told(*[notice(number, user="eve@example.com") for number in range(4)])
        assert message.lines[-1] == "“eve@example.com”"

    def test_without_user_ids_nobody_is_named(self) -> None:
        batch = [envelope(number) for number in range(4)]
        for each in batch:
            each["detail"]["data"]["session"]["userId"] = ""
        (message,) = told(*map(Notice.of, batch))
        assert message.lines == ("4 on stack office, fleet cad",)

    def test_a_name_can_imitate_neither_a_mention_nor_a_link_nor_a_line(self) -> None:
        hostile = "<!channel> [Reset](https://evil.example)\n“bob” has ended @here"
        (message,) = told(*[notice(number, user=hostile) for number in range(4)])
        assert message.lines[-1] == "“(!channel) (Reset)(https//evil.example)'bob' has ended here”"

    def test_scopes_that_cannot_be_listed_are_counted_too(self) -> None:
        kind = DetailType.AUDIT_DEGRADED
        (message,) = told(*[notice(number, kind, fleet=f"f{number}") for number in range(4)])
        assert message.heading == "AppStream Audit Degraded: 4 stacks and fleets"
        assert message.lines[0] == "1 on stack office, fleet f0"

    def test_fleets_with_errors_are_counted_and_their_errors(self) -> None:
        join, subnet = "DOMAIN_JOIN_ERROR_ACCESS_DENIED", "IGW_NOT_ATTACHED"
        batch = [
            notice(number, DetailType.FLEET_FAULTED, fleet=f"f{number}", codes=f"{join},{subnet}")
            for number in range(2)
        ]
        batch += [
            notice(number, DetailType.FLEET_FAULTED, fleet=f"f{number}", codes=join) for number in range(2, 5)
        ]
        (message,) = told(*batch)
        assert message.heading == "AppStream Fleet Faulted: 5 fleets"
        assert message.lines == (*(f"1 on fleet f{number}" for number in range(5)), f"{join} 5, {subnet} 2")
        assert message.remark == "Observed at 2026-03-02 14:00 UTC"

    def test_fleets_that_recovered_are_counted(self) -> None:
        batch = [notice(number, DetailType.FLEET_RECOVERED, fleet=f"f{number}") for number in range(4)]
        (message,) = told(*batch)
        assert message.heading == "AppStream Fleet Recovered: 4 fleets"

    def test_a_fleet_whose_errors_change_is_one(self) -> None:
        codes = ("A_CODE", "A_CODE,B_CODE", "B_CODE", "A_CODE")
        batch = [
            notice(number, DetailType.FLEET_FAULTED, codes=each, minute=number)
            for number, each in enumerate(codes)
        ]
        (message,) = told(*batch)
        assert message.heading == "AppStream Fleet Faulted: 1 fleets"
        assert message.lines == ("1 on fleet cad", "A_CODE 1, B_CODE 1")

    def test_sessions_are_counted_by_policy(self) -> None:
        kind = DetailType.POLICY_VIOLATED
        batch = [notice(number, kind, policy="two-at-most") for number in range(11)]
        batch += [notice(number, kind, policy="after-hours") for number in range(20, 40)]
        (message,) = told(*batch)
        assert message.heading == "AppStream Session Policy Violated: 31 sessions"
        assert message.lines[:2] == ("31 on stack office, fleet cad", "after-hours 20, two-at-most 11")
        assert message.lines[2].endswith(" and 21 more")
        assert "; at the latest they end at 2026-03-02 15:00 UTC (MAX_DURATION)" in message.remark

    def test_a_document_that_everybody_violates_is_one_message(self) -> None:
        """3,000 sessions on 30 fleets violate 12 policies, each of which names 250."""
        batch = [
            notice(
                number, DetailType.POLICY_VIOLATED, fleet=f"f{number % 30:02}", policy=f"p{number % 12:02}"
            )
            for number in range(3_000)
        ]
        (message,) = told(*batch)
        assert message.heading == "AppStream Session Policy Violated: 3,000 sessions"
        *places, rest, policies, names = message.lines
        assert places == [f"100 on stack office, fleet f{number:02}" for number in range(10)]
        assert rest == "2,000 on 20 more"
        assert policies == ", ".join(f"p{number:02} 250" for number in range(10)) + " and 2 more"
        assert names == ", ".join(f"“user{number}@example.com”" for number in range(10)) + " and 2,990 more"
        assert len(message.notices) == 3_000

    def test_a_session_that_crosses_two_thresholds_of_a_policy_is_one(self) -> None:
        batch = [envelope(number, DetailType.POLICY_VIOLATED, minute=number) for number in range(4)]
        for each in batch:
            each["detail"]["data"]["session"]["id"] = "s-1"
        (message,) = told(*map(Notice.of, batch))
        assert message.lines[:2] == ("1 on stack office, fleet cad", "after-hours 1")

    def test_of_many_policies_the_most_frequent_are_named(self) -> None:
        batch = [notice(number, DetailType.POLICY_CLEARED, policy=f"p-{number % 12}") for number in range(13)]
        (message,) = told(*batch)
        assert message.lines[1].startswith("p-0 2, p-1 1, p-10 1, ")
        assert message.lines[1].endswith(" and 2 more")
        assert message.remark == "Observed at 2026-03-02 14:00 UTC"

    def test_a_name_of_a_policy_can_imitate_nothing(self) -> None:
        batch = [
            notice(number, DetailType.POLICY_VIOLATED, policy="<!channel>\n@here") for number in range(4)
        ]
        (message,) = told(*batch)
        assert message.lines[1] == "(!channel)here 4"

    def test_it_says_when(self) -> None:
        batch = [notice(number, minute=number // 2) for number in range(4)]
        (message,) = told(*batch)
        ends = "at the latest they end at 2026-03-02 15:00 UTC (MAX_DURATION)"
        assert message.remark == f"Observed from 2026-03-02 14:00 UTC to 2026-03-02 14:01 UTC; {ends}"
        (message,) = told(*[notice(number, DetailType.ENDED) for number in range(4)])
        assert message.remark == "Observed at 2026-03-02 14:00 UTC"

    def test_it_says_from_when_to_when_its_sessions_end_and_why(self) -> None:
        batch = [envelope(number) for number in range(4)]
        batch[1]["detail"]["data"]["deadline"] = {
            "at": "2026-03-02T14:05:00Z",
            "cause": "DISCONNECT_TIMEOUT",
        }
        (message,) = told(*map(Notice.of, batch))
        ends = "2026-03-02 14:05 UTC to 2026-03-02 15:00 UTC (DISCONNECT_TIMEOUT, MAX_DURATION)"
        assert message.remark.endswith(f"; at the latest they end from {ends}")

    def test_a_session_that_is_warned_of_twice_is_one(self) -> None:
        batch = [envelope(number, minute=number) for number in range(4)]
        for number, each in enumerate(batch):
            each["detail"]["data"]["session"]["id"] = f"s-{number % 2}"
        (message,) = told(*map(Notice.of, batch))
        assert message.heading == "AppStream Session Expiring: 2 sessions"
        assert message.lines[0] == "2 on stack office, fleet cad"


class TestRemark:
    """What stands below a message, in small."""

    @pytest.mark.parametrize("kind", [DetailType.ENDED, DetailType.UNWATCHED, DetailType.POLICY_CLEARED])
    def test_what_is_over_has_no_end_to_come(self, kind: DetailType) -> None:
        (message,) = told(notice(1, kind))
        assert message.remark == "Session since 2026-03-02 08:30 UTC"

    def test_what_a_filter_leaves_out_is_not_told_now(self) -> None:
        event = envelope(1, DetailType.AUDIT_RECOVERED)
        (message,) = told(Notice.of(event))
        assert message.remark == "What happened there since 2026-03-02 13:30 UTC is told now"
        event["detail"]["data"]["reason"] = "FILTERED"
        (message,) = told(Notice.of(event))
        assert message.remark == "Not listed since 2026-03-02 13:30 UTC"

    def test_a_fleet_that_recovered_does_not_repeat_its_line(self) -> None:
        (message,) = told(notice(1, DetailType.FLEET_RECOVERED))
        assert message.remark == "Observed at 2026-03-02 14:00 UTC"

    def test_a_stack_without_known_fleets_names_none(self) -> None:
        (message,) = told(notice(1, DetailType.AUDIT_DEGRADED, fleet=""))
        assert message.heading == "AppStream Audit Degraded on stack office"


@pytest.mark.parametrize("detail_type", DetailType)
def test_every_detail_type_has_a_tone(detail_type: DetailType) -> None:
    assert tone_of(detail_type) in Tone


BROKEN = [
    pytest.param(lambda event: event.pop("source"), id="no source"),
    pytest.param(lambda event: event.update(source="somebody.else"), id="another source"),
    pytest.param(
        lambda event: event.update({"detail-type": "jane.doe@example.com"}), id="no detail-type of ours"
    ),
    pytest.param(lambda event: event["detail"].pop("metadata"), id="no metadata"),
    pytest.param(lambda event: event["detail"]["data"]["session"].update(userId=["jane.doe"]), id="a list"),
    pytest.param(lambda event: event["detail"].update(data="jane.doe@example.com"), id="data that is a text"),
    pytest.param(lambda event: event["detail"]["data"].pop("summary"), id="no summary"),
    pytest.param(lambda event: event["detail"]["data"].update(summary="jane \ud800"), id="half a pair"),
]


@pytest.mark.parametrize("break_it", BROKEN)
def test_what_is_no_event_is_refused_without_quoting_it(break_it: Any) -> None:
    event = envelope(user="jane.doe@example.com")
    break_it(event)
    with pytest.raises(NoticeError) as refused:
        Notice.of(event)
    assert "jane" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("event", [None, [], "text", 7, json.loads("{}")], ids=repr)
def test_anything_may_lie_in_the_queue(event: Any) -> None:
    with pytest.raises(NoticeError):
        Notice.of(event)
