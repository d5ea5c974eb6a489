"""The audience builder in a browser, on each store."""

import re
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.browser.page import Page

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


def test_the_count_narrows_while_conditions_are_added(page: Page) -> None:
    page.choose_field("tags")
    page.tick("vip")
    vips = page.count()
    assert 0 < vips < 2_422
    page.button("Add a condition").click()
    page.choose_field("score")
    page.all(".condition input[type=number]")[0].send_keys("60")
    keen = page.count()
    assert 0 < keen < vips
    page.wait(lambda: page.text(".description") == "Contacts for whom tags is vip and score is at least 60.")
    assert page.text("#spoken-count") == f"{keen} of 2,422 contacts"


def test_groups_and_negation_divide_all_contacts(page: Page) -> None:
    """None of two conditions has the contacts that any of them leaves out."""
    page.choose_field("country")
    page.tick("US")
    page.button("Add a condition").click()
    page.choose_field("tags")
    page.tick("vip")
    mode = Select(page.all(".group select")[0])
    counts = []
    for name in ("any", "none"):
        mode.select_by_visible_text(name)
        counts.append(page.count())
    assert sum(counts) == 2_422


def test_a_warning_is_shown_at_its_condition(page: Page) -> None:
    page.choose_field("lastEmailOpenedAt")
    page.choose_operator("is on or after")
    page.run(
        "const input = document.querySelector('.condition input');"
        "input.value = new Date(Date.now() - 20 * 86400000).toISOString().slice(0, 10);"
        "input.dispatchEvent(new Event('change'))"
    )
    page.wait(lambda: "does not move as time passes" in page.text(".condition .warning"))
    page.button("Go to the condition").click()
    assert page.run("return document.activeElement.type") == "date"


def test_an_error_is_shown_at_its_condition_with_the_cure(page: Page) -> None:
    page.button("Add a condition").click()
    page.choose_field("email")
    page.choose_operator("contains")
    page.all(".condition")[-1].find_elements("css selector", "input")[0].send_keys("x" * 1_100)
    page.wait(lambda: page.all(".condition .note.error"))
    assert page.all(".condition [aria-invalid=true]")
    page.console_errors()  # the browser reports the status 400


def test_a_saved_segment_opens_as_it_was(page: Page, store: str) -> None:
    """Its groups, operators and values."""
    page.choose_field("score")
    page.choose_operator("is between")
    for field, value in zip(page.all(".condition input"), ("20", "80"), strict=True):
        field.send_keys(value)
    page.button("Add a group of conditions").click()
    page.choose_field("email")
    page.choose_operator("does not contain")
    page.all(".condition")[-1].find_elements("css selector", "input")[0].send_keys("an")
    count = page.count()
    page.save(f"reopened on {store}")
    page.begin()
    page.open_segment(f"reopened on {store}")
    page.wait(lambda: page.all("#segment input")[0].get_attribute("value") == f"reopened on {store}")
    shown = page.run("return [...document.querySelectorAll('.condition :is(select, input)')].map((each) => each.value)")
    assert shown == ["score", "between", "20", "80", "email", "notContains", "an"]
    assert page.count() == count


def test_edits_are_left_only_if_the_person_agrees(page: Page, store: str) -> None:
    """Those of the name, the description, and exact JSON."""
    name = f"exact on {store}"
    page.create(name, '{"score": {"$gte": {"$numberLong": "9007199254740993"}}}')
    for css in ("#segment input", "#segment textarea", "#editor textarea"):
        page.open_segment(name)
        page.wait(lambda: page.text("#segment").endswith("Saved: version 0."))
        page.all(css)[0].send_keys(" ")
        assert page.text("#segment").endswith("Edited, not saved.")
        page.button("New").click()
        page.browser.switch_to.alert.dismiss()
        assert page.all(css)[0].get_attribute("value").endswith(" ")
        page.button("New").click()
        page.browser.switch_to.alert.accept()
        page.wait(lambda: page.all("#segment input")[0].get_attribute("value") == "")


def test_a_filter_that_is_not_valid_has_one_note_and_no_share(page: Page, store: str) -> None:
    """Count, words and members refer to the note."""
    page.create(f"broken on {store}", '{"score": {"$gte": {"$numberLong": "9007199254740993"}}}')
    page.open_segment(f"broken on {store}")
    page.wait(lambda: page.text("#segment").endswith("Saved: version 0."))
    page.all("#editor textarea")[0].send_keys("x")
    page.wait(lambda: page.all("#editor .note"))
    assert [each.text.partition(":")[0] for each in page.all("#editor .note")] == ["This is not Extended JSON"]
    for part in ("#count .note", ".description", "[role=tabpanel] .note"):
        page.wait(lambda: page.text(part) == "A condition is not valid: see the note at it.")  # noqa: B023
    assert page.run("return [...document.querySelectorAll('.bar span')].map((each) => each.offsetWidth)") == [0, 0]
    page.console_errors()  # the browser reports the status 400


def test_a_segment_of_other_records_is_not_opened(page: Page, store: str) -> None:
    name = f"leads on {store}"
    page.create(name, '{"country": "US"}', "lead")
    page.open_segment(name)
    page.wait(lambda: page.text("#segment [role=alert]").startswith(f"{name} is about records of lead."))
    assert page.all("#segment input")[0].get_attribute("value") == ""


def test_a_name_that_is_taken_is_refused_at_the_name(page: Page, store: str) -> None:
    for _ in range(2):
        page.choose_field("country")
        page.tick("DE")
        if not page.all("#segment [role=alert]"):
            page.all("#segment input")[0].send_keys(f"twice on {store}")
            page.button("Save as a segment").click()
        page.wait(lambda: page.text("#segment").endswith("Saved: version 0.") or page.all("#segment [role=alert]"))
        if not page.all("#segment [role=alert]"):
            page.begin()
    assert page.text("#segment [role=alert]") == "Another segment has this name; choose another name."
    assert page.browser.switch_to.active_element.accessible_name == "Name"
    page.console_errors()  # the browser reports the status 409


def test_an_incomplete_condition_is_not_saved(page: Page) -> None:
    page.choose_field("country")
    page.all("#segment input")[0].send_keys("incomplete")
    page.button("Save as a segment").click()
    assert "not complete" in page.text("#segment [role=alert]")
    assert page.browser.switch_to.active_element.accessible_name == "Another value of country"


def test_the_keyboard_alone_composes_and_saves(page: Page, store: str) -> None:
    assert page.browser.switch_to.active_element.accessible_name == "Field"
    page.press("country")
    page.tab_to("US")
    page.press(Keys.SPACE)
    count = page.count()
    assert 0 < count < 2_422
    page.tab_to("Name")
    page.press(f"typed on {store}", Keys.ENTER)
    page.wait(lambda: page.text("#segment").endswith("Saved: version 0."))
    page.tab_to("Members")
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.browser.switch_to.active_element.accessible_name == "Targeting"
    page.tab_to("Location")
    page.press("Munich")
    page.wait(lambda: "Munich" in page.text(".pickers [role=option]"))
    page.press(Keys.ARROW_DOWN, Keys.ENTER)
    page.tab_to("Use Munich as a condition")
    page.press(Keys.ENTER)
    page.wait(lambda: page.all(".condition .picker"))
    assert page.count() == 0  # nobody in the United States lives near Munich


def test_a_removed_condition_leaves_the_focus_next_to_it(page: Page) -> None:
    page.button("Remove this condition").click()
    assert page.browser.switch_to.active_element.accessible_name == "Add a condition"


def test_the_members_are_those_of_the_conditions(page: Page) -> None:
    page.choose_field("country")
    page.tick("JP")
    page.count()
    page.wait(lambda: {row.text.split()[-1] for row in page.all(".scroll tbody tr")} == {"JP"})
    assert len(page.all(".scroll tbody tr")) == 10


def test_an_overlap_is_a_picture_and_a_table(page: Page, store: str) -> None:
    sizes = {}
    for field, value in (("country", "GB"), ("tags", "trial"), ("leadStage", "lead")):
        page.choose_field(field)
        page.tick(value)
        sizes[f"{value} on {store}"] = page.count()
        page.save(f"{value} on {store}")
        page.begin()
    page.show_tab("Overlap")
    for number, name in enumerate(sizes, 1):
        page.tick(name)
        if number > 1:
            page.wait_for("svg circle", number)
    label = page.all("svg")[0].get_attribute("aria-label")
    assert {name: int(size.replace(",", "")) for name, size in re.findall(r"(\w+ on \w+) \(([\d,]+)\)", label)} == sizes
    regions = sorted(int(cell.text.replace(",", "")) for cell in page.all(".overlap td:last-child"))
    drawn = sorted(int(each.text.replace(",", "")) for each in page.all("svg .region"))
    assert regions == drawn
    assert len(drawn) == 7
    total = int(page.text("figcaption p").split()[0].replace(",", ""))
    assert sum(drawn) == total


def test_the_segments_of_all_pages_can_be_compared(page: Page, store: str) -> None:
    names = [f"zz {number} on {store}" for number in range(3)]
    for name in names:
        page.create(name, '{"country": "IT"}')
    page.run(
        "const real = fetch;"
        "window.fetch = (url, ...others) => real(url.replace(/pageSize=\\d+/, 'pageSize=2'), ...others)"
    )
    page.show_tab("Overlap")
    page.wait(lambda: [each.text for each in page.all(".choices .pill")][-3:] == names)


def test_insights_compare_a_segment_with_the_org(page: Page, store: str) -> None:
    page.show_tab("Insights")
    assert "Save the audience" in page.panel()
    page.choose_field("country")
    page.tick("FR")
    page.count()
    page.save(f"insights on {store}")
    if store == "embedded":
        page.wait(lambda: "The store in memory has no insights" in page.panel())
    else:
        page.wait(lambda: "compared with 2,422 contacts" in page.panel())
        assert len(page.all(".dimensions table")) == 6


def unnamed_controls(page: Page) -> list[str]:
    """The visible controls without an accessible name, or `none`."""
    controls = page.all("button, input, select, textarea, [role=tab], [role=tabpanel], [role=region], fieldset")
    return [
        each.get_attribute("outerHTML") for each in controls if each.is_displayed() and not each.accessible_name
    ] or ["none"]


@pytest.mark.parametrize("width", [1280, 400])
def test_each_control_has_a_name_and_each_text_contrast(page: Page, store: str, width: int) -> None:
    page.resize(width, 1000)
    page.choose_field("tags")
    page.tick("vip")
    page.button("Add a group of conditions").click()
    page.choose_field("lastEmailOpenedAt")
    page.button("Add members of another audience").click()
    page.count()
    for name in ("Overlap", "Targeting", "Members"):
        page.show_tab(name)
        page.wait(lambda: page.panel())
        assert page.wait(lambda: unnamed_controls(page)) == ["none"]
        count, low = page.run(CONTRAST)
        assert count > 20
        assert low == []
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    page.choose_field("tags")
    ids = page.run("return [...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    dangling = page.run(
        "return ['for', 'aria-controls', 'aria-labelledby', 'aria-describedby'].flatMap((name) =>"
        " [...document.querySelectorAll(`[${name}]`)].map((each) => each.getAttribute(name)))"
        ".filter((id) => !document.getElementById(id))"
    )
    assert dangling == []


def test_the_token_leaves_the_address(page: Page, address: str) -> None:
    assert page.browser.current_url == address.partition("#")[0]


def test_a_link_cannot_send_the_stored_token_to_another_gateway(page: Page, address: str) -> None:
    """A link without a token opens with the stored connection, not with the gateway of the link."""
    asked = "return performance.getEntriesByType('resource').map((each) => each.name)"
    page.browser.get("about:blank")
    page.browser.get(f"{address.partition('#')[0]}#gateway=http://127.0.0.1:9&org=demo")
    page.wait(lambda: page.text("#spoken-count").startswith("2,422 of 2,422"))
    assert [name for name in page.run(asked) if "127.0.0.1:9/" in name] == []
