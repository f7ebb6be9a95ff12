"""The page in a real browser: look up, change fields, see the probability and its drivers move; with keyboard and token."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from streaming.api.app import create_app
from streaming.api.served import Models, Served
from streaming.config.sections import Api
from streaming.errors import StateError
from tests.support.api_server import serving
from tests.support.browsers import said_nothing
from tests.support.churn_models import ROW, LinearChurn, churn, expected

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKEN = "a-token-of-some-length"


class Rows:
    """A store with one customer, whose name is markup."""

    def get(self, key: str) -> list[dict[str, object]]:
        at = datetime(2026, 11, 21, 8, tzinfo=UTC)
        row = {"key": key, "model": "churn", "model_version": "<b>7</b>", "event_time": at, "scored_at": at, "prediction": 1.0}
        row["event_id"] = f"customers:0:{17 if key == 'C-1042' else 18}"
        return [row | {"probability": [0.18, 0.82]}] if key in {"C-1042", "<img src=x onerror=alert(1)>"} else []


class Events:
    """The event of the first customer is still there; that of the other is not."""

    def of(self, event_id: str, names: Any) -> dict[str, Any]:
        if event_id != "customers:0:17":
            raise StateError("the event is no longer on the topic")
        own = {**ROW, "tenure": 71, "contract": "Two year", "payment_method": "<b>cash</b>", "gender": None}
        return {name: own[name] for name in names}


@pytest.fixture(scope="module")
def service() -> Iterator[httpx.Client]:
    class Short(LinearChurn):
        """Knows so many categories of one field that they are typed, with suggestions."""

        def categories(self) -> Any:
            return {**super().categories(), "payment_method": [f"Method {i}" for i in range(40)]}

    served = Served.of(Short(), name="churn", version="7", example=ROW)
    with serving(create_app(Models.fixed(served), Rows(), Api(), events=Events())) as client:
        yield client


@pytest.fixture
def page(browser: Browser, service: httpx.Client) -> Iterator[Page]:
    opened = browser.new_page()
    with said_nothing(opened, str(service.base_url)):
        opened.goto(str(service.base_url))
        yield opened
    opened.close()


def percent(row: dict[str, Any]) -> str:
    return f"{100 * expected(row):.0f} %"


def test_changing_fields_moves_the_probability_and_its_drivers(page: Page) -> None:
    from playwright.sync_api import expect

    number, drivers = page.locator("#number"), page.locator(".driver")
    expect(number).to_have_text(percent(ROW))
    expect(drivers).to_have_count(len(ROW))
    expect(drivers.first).to_contain_text("Contract")
    before = expected(ROW) - expected({**ROW, "contract": "One year"})
    expect(drivers.first).to_contain_text(f"+{100 * before:.1f} pts")
    page.get_by_label("Contract").select_option(label="Two year")
    expect(number).to_have_text(percent({**ROW, "contract": "Two year"}))
    expect(drivers.filter(has_text="Contract")).to_contain_text("−")
    expect(page.locator("#compared")).to_contain_text("less than with the starting values")
    page.get_by_label("Tenure").fill("60")
    expect(number).to_have_text(percent({**ROW, "contract": "Two year", "tenure": 60}))
    page.get_by_label("Tenure").fill("")
    expect(page.locator("#answer-error")).to_have_text("No prediction: tenure is null")
    page.get_by_role("button", name="Back to the start").click()
    expect(number).to_have_text(percent(ROW))
    expect(page.locator("#answer-error")).to_be_empty()


def test_many_categories_are_suggested_and_others_can_be_typed(page: Page) -> None:
    from playwright.sync_api import expect

    field = page.get_by_label("Payment method")
    expect(page.locator("datalist option")).to_have_count(40)
    expect(field).to_have_value("Electronic check")
    field.fill("Barter")
    expect(page.locator("#number")).to_have_text(percent({**ROW, "payment_method": "Barter"}))


def test_a_customer_is_looked_up_with_the_time(page: Page) -> None:
    from playwright.sync_api import expect

    page.get_by_label("Customer key").fill("C-1042")
    page.keyboard.press("Enter")
    stored = page.locator("#stored")
    expect(stored).to_contain_text("82 % probability of churn")
    expect(stored).to_contain_text("<b>7</b>")  # text, never markup
    expect(stored.locator("time").first).to_have_attribute("datetime", "2026-11-21T08:00:00+00:00")
    page.get_by_label("Customer key").fill("<img src=x onerror=alert(1)>")
    page.keyboard.press("Enter")
    expect(stored).to_contain_text("<img src=x")
    expect(stored.locator("img")).to_have_count(0)
    page.get_by_label("Customer key").fill("nobody")
    page.keyboard.press("Enter")
    expect(stored).to_have_text("No prediction is stored for customer nobody.")


def test_looking_a_customer_up_fills_the_form_with_its_own_fields(page: Page) -> None:
    from playwright.sync_api import expect

    page.get_by_label("Customer key").fill("C-1042")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Tenure")).to_have_value("71")
    expect(page.get_by_label("Contract")).to_have_value('"Two year"')
    expect(page.get_by_label("Payment method")).to_have_value("<b>cash</b>")  # one that the model has never seen
    expect(page.locator("#stored")).to_contain_text("The fields are this customer's own")
    expect(page.locator("#compared")).to_have_text("The starting values.")
    page.get_by_label("Customer key").fill("<img src=x onerror=alert(1)>")
    page.keyboard.press("Enter")
    expect(page.locator("#stored")).to_contain_text("not this customer's: the event is no longer on the topic")
    expect(page.get_by_label("Tenure")).to_have_value("71")  # left as it was


def test_every_control_has_a_name_and_the_keyboard_reaches_it(page: Page) -> None:
    from playwright.sync_api import expect

    expect(page.locator(".driver").first).to_be_visible()
    controls = page.locator("#content input, #content select")
    assert controls.count() == len(ROW) + 1
    for i in range(controls.count()):
        assert controls.nth(i).evaluate("control => control.labels.length") == 1
    reached = set()
    for _ in range(2 * (len(ROW) + 6)):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id"))
    assert {"key", "reset", *(f"field-{name}" for name in ROW)} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, service: httpx.Client, scheme: Any) -> None:
    """WCAG 2 AA: 4.5 to 1 for text, 3 to 1 for the edges of fields and the bars."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(str(service.base_url))
    names = ("--text", "--soft", "--accent", "--wrong", "--edge", "--up", "--down", "--card", "--back", "--on-accent", "--track")
    script = "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue(name).trim())"
    colour = dict(zip(names, page.evaluate(script, list(names)), strict=True))
    page.close()
    for front, back, least in [
        *((name, ground, 4.5) for name in ("--text", "--soft", "--accent", "--wrong") for ground in ("--card", "--back")),
        ("--on-accent", "--accent", 4.5), ("--edge", "--card", 3.0), ("--up", "--track", 3.0), ("--down", "--track", 3.0),
    ]:  # fmt: skip
        assert _contrast(colour[front], colour[back]) >= least, (front, back, colour)


def _contrast(a: str, b: str) -> float:
    """WCAG 2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(a), luminance(b)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_page_asks_for_the_token_and_the_description_can_be_tried(browser: Browser) -> None:
    from playwright.sync_api import expect

    settings = Api(token=TOKEN)  # type: ignore[arg-type]
    with serving(create_app(Models.fixed(churn()), Rows(), settings)) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
        expect(page.locator("#content")).to_be_hidden()
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-error")).to_have_text("This token is not the service's.")
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#number")).to_have_text(percent(ROW))
        page.get_by_role("link", name="API").click()
        operation = page.locator("details.operation", has=page.get_by_text("/v1/models/{name}:predict", exact=True))
        operation.locator("summary").first.click()
        operation.get_by_role("button", name="Send").click()
        expect(operation.get_by_label("Answer")).to_contain_text('"prediction": 1')
        page.close()
