"""A real headless Chromium: Debian's packages `chromium` and `chromium-driver`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def missing() -> str:
    """Why there is no browser here, or ""."""
    programs = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if programs:
        return f"needs {' and '.join(programs)}: apt-get install chromium chromium-driver"
    return ""


@contextmanager
def chromium(
    width: int = 1360, height: int = 860, *, dark: bool = False, profile: str | None = None
) -> Iterator[Any]:
    """A selenium driver. profile: a directory that outlives the browser, for what it stores."""
    if reason := missing():
        pytest.skip(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",  # containers have no user namespaces
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "--mute-audio",
        "--autoplay-policy=no-user-gesture-required",
        *([f"--user-data-dir={profile}"] if profile else []),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


def problems(driver: Any) -> list[str]:
    """Everything that the console complains of: errors, warnings, violations of the policy."""
    return [row["message"] for row in driver.get_log("browser") if row["level"] != "INFO"]
