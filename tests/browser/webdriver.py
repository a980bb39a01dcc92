"""A real Chromium, driven by WebDriver (W3C) through chromedriver: what the tests need, and no more."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE_S = 30
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": "\ue00d"}


class Driver:
    """chromedriver, on a port of its own. Ends with its browsers."""

    def __init__(self):
        command = ["chromedriver", "--port=0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            started = re.search(r"started successfully on port (\d+)", line)
            if started:
                self.address = f"http://127.0.0.1:{started[1]}"
                return
        raise SystemExit("chromedriver does not start")

    def close(self):
        self.process.terminate()
        self.process.wait()


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, driver, origin, width=1280, dark=False, script=True):
        self.origin, self.width = origin, width
        self.profile = tempfile.mkdtemp(prefix="tollgate-browser-")
        options = {
            # Sandboxes of Chromium do not start as root, where CI often runs.
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--user-data-dir={self.profile}"],
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = call("POST", driver.address + "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.address = f"{driver.address}/session/{session['sessionId']}"
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[theme])
        # What is asked for on a page is waited for: the one before may still be there.
        call("POST", self.address + "/timeouts", {"implicit": PATIENCE_S * 1000})
        if not script:
            self.devtools("Emulation.setScriptExecutionDisabled", value=True)

    def close(self):
        call("DELETE", self.address)
        shutil.rmtree(self.profile, ignore_errors=True)

    def devtools(self, command, **params):
        return call("POST", self.address + "/goog/cdp/execute", {"cmd": command, "params": params})

    def open(self, path):
        call("POST", self.address + "/url", {"url": self.origin + path})

    @property
    def path(self):
        return call("GET", self.address + "/url").removeprefix(self.origin)

    def source(self):
        return call("GET", self.address + "/source")

    def find(self, css):
        return call("POST", self.address + "/element", {"using": "css selector", "value": css})[ELEMENT]

    def count(self, css):
        return len(call("POST", self.address + "/elements", {"using": "css selector", "value": css}))

    def text(self, css="main"):
        return call("GET", f"{self.address}/element/{self.find(css)}/text")

    def click(self, css):
        self.click_on(self.find(css))

    def click_on(self, element):
        try:
            call("POST", f"{self.address}/element/{element}/click", {})
        except AssertionError as error:
            if "intercepted" not in str(error):
                raise
            # The bar of a form lies over what stands at the window's edge: a person scrolls on.
            self.run("arguments[0].scrollIntoView({block: 'center'})", {ELEMENT: element})
            call("POST", f"{self.address}/element/{element}/click", {})

    def press(self, words):
        """Clicks the button or the link of these words."""
        is_it = f"normalize-space()='{words}' or starts-with(normalize-space(), '{words} ')"
        path = f"//*[self::button or self::a][not(@aria-hidden)][{is_it}]"
        found = call("POST", self.address + "/elements", {"using": "xpath", "value": path})
        for element in found:
            if call("GET", f"{self.address}/element/{element[ELEMENT]}/displayed"):
                self.click_on(element[ELEMENT])
                return
        raise AssertionError(f"nothing says {words!r}: {self.text()}")

    def fill(self, name, text):
        element = self.find(f"[name='{name}']")
        call("POST", f"{self.address}/element/{element}/clear", {})
        call("POST", f"{self.address}/element/{element}/value", {"text": text})

    def choose(self, name, value):
        self.click(f"select[name='{name}'] option[value='{value}']")

    def type(self, *keys):
        """Presses keys on whatever has the focus: a name of KEYS, or a text."""
        typed = [key for word in keys for key in ([KEYS[word]] if word in KEYS else word)]
        actions = [{"type": kind, "value": key} for key in typed for kind in ("keyDown", "keyUp")]
        call("POST", self.address + "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def focused(self):
        """The name of the field that has the focus, or the words of what it is."""
        element = call("GET", self.address + "/element/active")[ELEMENT]
        name = call("GET", f"{self.address}/element/{element}/attribute/name")
        return name or call("GET", f"{self.address}/element/{element}/text")

    def run(self, script, *args):
        return call("POST", self.address + "/execute/sync", {"script": script, "args": list(args)})

    def until(self, what, seen):
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                if seen():
                    return
            except AssertionError as error:
                # The page went away while it was looked at.
                if "stale" not in str(error) and "no such" not in str(error):
                    raise
            assert time.monotonic() < end, f"{what} was not seen at {self.path}: {self.text()}"
            time.sleep(0.05)

    def shows(self, *texts):
        """Waits until the page says all of this, and answers what it says."""
        self.until(" and ".join(texts), lambda: all(text in self.text() for text in texts))
        return self.text()

    def arrives(self, path):
        """Waits until the address ends so."""
        self.until(path, lambda: self.path.endswith(path))

    def complaints(self):
        """What the browser wrote into its log: policies that were broken, scripts that failed."""
        entries = call("POST", self.address + "/se/log", {"type": "browser"})
        # That a form was refused, or a page is not there, is what is tried.
        return [entry["message"] for entry in entries if "the server responded with a status of" not in entry["message"]]

    def axe(self, axe):
        """What axe-core finds wrong with the page."""
        self.run(axe)
        script = """
            const done = arguments[arguments.length - 1];
            axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations.map(
                (one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' ')}`)));
        """
        return call("POST", self.address + "/execute/async", {"script": script, "args": []})

    def picture(self):
        """The whole page as a PNG. What sticks to the window's edge stays in its place."""
        height = self.run("return document.documentElement.scrollHeight")
        self.devtools("Emulation.setDeviceMetricsOverride", width=self.width, height=max(600, min(height, 2400)),
                      deviceScaleFactor=1, mobile=False)
        made = self.devtools("Page.captureScreenshot", format="png")
        self.devtools("Emulation.setDeviceMetricsOverride", width=self.width, height=900, deviceScaleFactor=1, mobile=False)
        return base64.b64decode(made["data"])


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        told = json.load(error)["value"]
        raise AssertionError(f"{method} {url}: {told['error']}: {told['message'][:400]}") from None
