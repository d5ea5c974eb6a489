"""The page of the audience builder as a person uses it: by the names of its parts."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

Found = TypeVar("Found")
_TIMEOUT_SECONDS = 40
_EXACT_COUNT = """
const [number, interval] = [".number", ".interval"].map((css) => document.querySelector(css));
return interval.textContent.endsWith("exact") && !number.classList.contains("old") ? number.textContent : "";
"""
"""The exact count as text; empty while the page shows an estimate, or the count of earlier conditions."""
_CREATE = """
const { gateway, org, token } = JSON.parse(sessionStorage.getItem("audience-builder-connection"));
const headers = { authorization: `Bearer ${token}`, orgid: org, "content-type": "application/json" };
const request = { method: "POST", headers, body: JSON.stringify(arguments[0]) };
return fetch(`${gateway}/crm/audiences/segments`, request).then(({ status }) => status);
"""


class Page:
    """One tab. Its methods wait until what they look for is there."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def open(self, address: str) -> None:
        """Open the page with a new audience, and wait for the count of all contacts."""
        self.browser.get("about:blank")
        self.browser.get(address)
        self.wait(lambda: self.text("#spoken-count").startswith("2,422 of 2,422"))

    def resize(self, width: int, height: int) -> None:
        """Show the page in a window of this size, also below the least width of windows."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def wait(self, condition: Callable[[], Found]) -> Found:
        """What a condition returns, once that is true."""

        def check(_: Any) -> Found:
            return condition()

        waiting = WebDriverWait(self.browser, _TIMEOUT_SECONDS, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(check, message=condition.__qualname__)  # type: ignore[no-any-return]

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.browser.execute_script(script, *arguments)

    def all(self, css: str) -> list[Any]:
        """The elements that a selector finds."""
        return list(self.browser.find_elements(By.CSS_SELECTOR, css))

    def wait_for(self, css: str, number: int) -> None:
        """Wait until a selector finds so many elements."""
        self.wait(lambda: len(self.all(css)) == number)

    def text(self, css: str) -> str:
        """The text of the first element that a selector finds, also if it is hidden from view."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", css))

    def button(self, name: str, within: str = "") -> Any:
        """A button, by its accessible name."""
        return self.wait(
            lambda: next((each for each in self.all(f"{within} button") if each.accessible_name == name), None)
        )

    def choose_field(self, path: str, number: int = -1) -> None:
        """Choose the field of a condition, by default of the last one."""
        Select(self.all(".condition")[number].find_element(By.CSS_SELECTOR, "select")).select_by_value(path)

    def choose_operator(self, label: str, number: int = -1) -> None:
        """Choose the operator of a condition."""
        condition = self.all(".condition")[number]
        Select(condition.find_elements(By.CSS_SELECTOR, "select")[1]).select_by_visible_text(label)

    def tick(self, value: str) -> None:
        """Tick a value of a condition, or a segment."""
        pills = f"//label[contains(@class, 'pill')][normalize-space(text()[1])='{value}']"
        self.wait(lambda: self.browser.find_elements(By.XPATH, pills))[-1].click()

    def count(self) -> int:
        """The number of contacts who meet the conditions, once the page shows it as exact."""
        shown = self.wait(self._exact_count)
        return int(shown.replace(",", ""))

    def _exact_count(self) -> str:
        return str(self.run(_EXACT_COUNT))

    def save(self, name: str) -> None:
        """Save the conditions as a new segment."""
        field = self.all("#segment input")[0]
        field.clear()
        field.send_keys(name)
        self.button("Save as a segment").click()
        self.wait(lambda: self.text("#segment").endswith("Saved: version 0."))

    def create(self, name: str, where: str, datatype: str = "contact") -> None:
        """Create a segment as another tool does, from exact JSON."""
        filter_ = {"datatype": datatype, "whereJson": where}
        assert self.run(_CREATE, {"name": name, "filter": filter_, "type": "dynamic"}) == 200

    def open_segment(self, name: str) -> None:
        """Search a segment by its name and choose it."""
        search = self.all("[role=combobox]")[0]
        search.send_keys(name)
        self.wait(lambda: [each.text.startswith(name) for each in self.all("[role=option]")] == [True])
        search.send_keys(Keys.ARROW_DOWN, Keys.ENTER)

    def begin(self) -> None:
        """Begin a new audience."""
        self.button("New").click()
        self.wait(lambda: self.text("#spoken-count").startswith("2,422 of 2,422"))

    def show_tab(self, name: str) -> None:
        """Open a panel."""
        self.button(name, "[role=tablist]").click()

    def panel(self) -> str:
        """The text of the open panel."""
        return self.text("[role=tabpanel]:not([hidden])")

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        ActionChains(self.browser).send_keys(*keys).perform()

    def tab_to(self, name: str) -> None:
        """Press Tab until the focus is on a control, by its accessible name."""
        for _ in range(200):
            self.press(Keys.TAB)
            if self.browser.switch_to.active_element.accessible_name.startswith(name):
                return
        raise AssertionError(f"Tab does not reach {name}")

    def console_errors(self) -> list[str]:
        """The errors in the console since the last call, except the refusal of insights by the embedded store."""
        found = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in found if not re.search(r"/insights\?.* status of 501", message)]
