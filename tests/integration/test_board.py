"""The board in the local cloud: what it shows is what AppStream has, and a browser can use it."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import time_machine
from click.testing import CliRunner
from playwright.sync_api import Page, sync_playwright

from appstream_auditor.deployment import DEFAULT_STACK
from appstream_auditor.main import cli
from sandbox.appstream.models import StreamingSession
from sandbox.cloud import CREDENTIALS, REGION, LocalCloud, local_cloud
from sandbox.console import BOARD, Call, console, deployed_board
from sandbox.day import BEGIN, EXPIRED_PASSWORD, POLICIES, STEPS, opening, time_of_day
from sandbox.demo import deployed_auditor
from tests.shared.npm import npm_pack

MINUTE = timedelta(minutes=1)
PARAMETER = "/appstream/policies"
# Six times of the day; the last is where the browser looks.
ASKED_AT = ("08:25", "10:17", "12:20", "13:20", "14:20", "14:50")
LATE = 14
DOMPURIFY = "dompurify@3.5.0"
DOMPURIFY_SHA512 = "LYC0ZkE8P1V42JsRYTwMdme/2ET8SpOc5AA2eOFjP/IadvRd2fwiT4TVz5vkfy0XUx12aS2UaRkTnfVPNOv9vw=="
# What the console is documented to take beside plain HTML: its element, with these attributes.
ALLOWED = {
    "ADD_TAGS": ["cwdb-action"],
    "ADD_ATTR": ["action", "display", "endpoint", "confirmation", "event"],
    # An ARN is no URL.
    "ADD_URI_SAFE_ATTR": ["endpoint"],
}


@dataclass
class Office:
    """The local cloud with the auditor and the board, and the day played up to `now`."""

    cloud: LocalCloud
    call: Call
    now: datetime = field(default_factory=lambda: time_of_day(BEGIN))
    seen: dict[str, tuple[list[StreamingSession], str, list[dict[str, Any]]]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    with local_cloud() as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name.upper(), value)
        patch.setenv("AWS_ENDPOINT_URL", cloud.endpoint)
        patch.setenv("AWS_ENDPOINT_URL_APPSTREAM", cloud.appstream_endpoint)
        patch.setenv("AWS_REGION", REGION)
        patch.delitem(sys.modules, "auditor", raising=False)
        cloud.client("ssm").put_parameter(Name=PARAMETER, Value=json.dumps(POLICIES), Type="String")
        settings = {"Sweeps": "DISABLED", "PoliciesParameter": PARAMETER, "TagKeys": "department"}
        auditor = deployed_auditor(cloud, cloud.deploy(settings, name=DEFAULT_STACK))
        stack = cloud.deploy({}, name="board", template=BOARD)
        here = Office(cloud, deployed_board(cloud, stack, lambda: here.now))
        opening(cloud.appstream)
        steps = list(STEPS)
        while True:
            while steps and steps[0].at <= here.now:
                steps.pop(0).act(cloud.appstream)
            asked = f"{here.now:%H:%M}" in ASKED_AT
            # Every other minute opens no hole, and takes half the time. More is asked of the last hour.
            if asked or here.now.minute % 2 == 0 or here.now.hour >= LATE:
                auditor.sweep(f"{here.now:%H%M}", lambda: here.now, lambda: 50.0)
            if asked:
                look(here)
            if f"{here.now:%H:%M}" == ASKED_AT[-1]:
                break
            here.now += MINUTE
        yield here


def look(here: Office) -> None:
    """Keep what AppStream has, what the board shows of it, and what the command answers."""
    with time_machine.travel(here.now, tick=False):
        asked = CliRunner().invoke(cli, ["sessions", "-o", "json"], catch_exceptions=False)
    sessions = [StreamingSession(**vars(each)) for each in here.cloud.appstream.sessions.values()]
    rows = json.loads(asked.stdout)["sessions"]
    here.seen[f"{here.now:%H:%M}"] = sessions, here.call({}), rows


class Tables(HTMLParser):
    """The text of the cells of every table, without what an action says."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.inside = self.silent = False
        self.feed(page)

    def handle_starttag(self, tag: str, _: Any) -> None:
        if tag == "table":
            self.inside = True
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        self.silent = tag == "cwdb-action"

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "table"
        self.silent = False

    def handle_data(self, data: str) -> None:
        if self.inside and self.tables[-1] and self.tables[-1][-1] and not self.silent:
            self.tables[-1][-1][-1] += data


@pytest.mark.parametrize("moment", ASKED_AT)
def test_board_command_and_appstream_agree(office: Office, moment: str) -> None:
    sessions, page, rows = office.seen[moment]
    heads, *shown = Tables(page).tables[-1]
    cells = [dict(zip(heads, row, strict=False)) for row in shown]
    assert [(each["User"], each["Fleet"], each["Host"]) for each in cells] == [
        (row["userId"], row["fleetName"], row["instanceId"]) for row in rows
    ]
    states = {each["User"]: each["State"] for each in cells}
    assert {user: state == "connected" for user, state in states.items()} == {
        each.user_id: each.connection_state == "CONNECTED" for each in sessions
    }
    live = re.search(r"<b>(\d+)</b><span>live</span>", page)
    assert live
    assert int(live[1]) == len(sessions) == len(rows)


def test_its_role_is_enough_for_every_page(office: Office) -> None:
    # The deployed function itself, in the local cloud's Lambda, with the time that it is.
    (name,) = [
        each["FunctionName"]
        for each in office.cloud.client("lambda").list_functions()["Functions"]
        if "BoardFunction" in each["FunctionName"]
    ]
    answer = office.cloud.client("lambda").invoke(FunctionName=name, Payload=b"{}")
    page = json.loads(answer["Payload"].read())
    assert page.startswith('<div class="asa light">')
    assert "farid@example.com" in page


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no Chromium at hand (on Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def browser(office: Office, chromium: str) -> Iterator[Page]:
    quiet = [
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with console(office.call) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *quiet])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url)
        yield page
        assert problems == []
        browser.close()


def settled(page: Page, calls: int) -> None:
    page.wait_for_function(f"Number(document.body.dataset.calls) >= {calls}")


def calls(page: Page) -> int:
    return int(page.evaluate("Number(document.body.dataset.calls || 0)"))


def click(page: Page, selector: str) -> None:
    """Click, and wait until the answer is shown."""
    before = calls(page)
    page.click(selector)
    settled(page, before + 1)


@pytest.fixture
def page(browser: Page) -> Page:
    browser.reload()
    settled(browser, 1)
    return browser


def users(page: Page) -> list[str]:
    found: list[str] = (
        page.locator("#widget table").last.locator("tbody tr td:first-child a").all_inner_texts()
    )
    return found


class TestBrowser:
    """Search, drill-down, pop-up, themes, as people use them."""

    def test_the_most_urgent_is_at_the_top(self, page: Page) -> None:
        assert users(page)[0] == "farid@example.com"
        assert len(users(page)) == 13

    def test_search(self, page: Page) -> None:
        page.fill("input[name=user]", "FARID")
        click(page, ".search .btn")
        assert users(page) == ["farid@example.com"]
        assert page.input_value("input[name=user]") == "FARID"
        page.fill("input[name=user]", "")
        page.select_option("select[name=state]", "connected")
        click(page, ".search .btn")
        assert len(users(page)) == 12

    def test_who_violates_a_policy_and_how(self, page: Page) -> None:
        page.select_option("select[name=state]", "violating")
        click(page, ".search .btn")
        assert users(page) == ["hiro@example.com"]
        assert page.inner_text("#widget td b") == "two-at-most"
        click(page, "#widget td a:has-text('connected')")
        assert "violates policy two-at-most since 14:28: its user has 3 sessions" in page.inner_text("dialog")

    def test_a_fleet_that_cannot_join_its_domain(self, page: Page) -> None:
        # Fleets are described every ten minutes.
        said = f"AppStream names errors of fleet cad since 14:28: {EXPIRED_PASSWORD[0]}."
        assert said in page.inner_text("#widget .fault")
        click(page, "#widget .fault a")
        assert page.inner_text("#widget h2").startswith("Fleet cad")
        assert said in page.inner_text("#widget .fault")

    def test_from_a_fleet_to_a_user_and_back(self, page: Page) -> None:
        click(page, "#widget td a:text-is('cad')")
        assert page.inner_text("#widget h2").startswith("Fleet cad")
        assert page.locator("svg.wide").count() == 1
        click(page, "#widget td a:text-is('farid@example.com')")
        assert page.inner_text("#widget h2").startswith("User farid@example.com")
        click(page, "#widget h2 a.btn")
        assert len(users(page)) == 13

    def test_the_life_of_a_session_pops_up(self, page: Page) -> None:
        click(page, "#widget td a:has-text('disconnected')")
        assert page.is_visible("dialog")
        told = page.inner_text("dialog")
        assert "disconnected since 14:00; ends at 15:00, in 10m (disconnect timeout)" in told
        assert "nobody connected for 15 min" in told
        assert len(users(page)) == 13, "the widget stays as it was"
        page.click("dialog button")
        assert not page.is_visible("dialog")

    def test_themes_differ_and_both_can_be_read(self, page: Page) -> None:
        colour = "getComputedStyle(document.querySelector('#widget .asa')).color"
        light = page.evaluate(colour)
        click(page, "#theme")
        assert page.evaluate(colour) != light
        click(page, "#theme")

    @pytest.mark.parametrize("width", [330, 420, 700, 1280])
    def test_nothing_hangs_over_the_edge(self, page: Page, width: int) -> None:
        page.set_viewport_size({"width": width, "height": 900})
        click(page, "#refresh")
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        page.set_viewport_size({"width": 1280, "height": 900})
        assert over <= 0

    def test_dompurify_changes_nothing(self, page: Page, office: Office, tmp_path: Path) -> None:
        package = npm_pack(DOMPURIFY, DOMPURIFY_SHA512, tmp_path)
        page.add_script_tag(path=str(package / "package" / "dist" / "purify.min.js"))
        for event in ({}, {"view": "fleet", "fleet": "cad"}, {"view": "user", "user": "farid@example.com"}):
            html = office.call(event)
            kept, given = page.evaluate(
                """([html, allowed]) => {
                    const given = document.createElement("div"), kept = document.createElement("div");
                    given.innerHTML = html;
                    kept.innerHTML = DOMPurify.sanitize(html, allowed);
                    return [kept.innerHTML, given.innerHTML];
                }""",
                [html, ALLOWED],
            )
            assert kept == given
