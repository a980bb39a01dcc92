#!/usr/bin/env python3
"""The console in a real Chromium. `.ci/console` runs it, and gives it axe-core.

    console.py TOLLGATE AXE_MIN_JS            does what people do, and looks at every page
    console.py TOLLGATE AXE_MIN_JS FOLDER     puts pictures of the pages there instead
"""

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from webdriver import Browser, Driver

DECLARED = """
targets: [{id: shop/orders/prod}, {id: shop/catalog/prod}, {id: shop/orders/sandbox}]
plans:
- id: free
  displayName: Free
  entitlements:
  - {name: default, targets: [shop/orders/sandbox], rateLimit: {requestsPerSecond: 5, burst: 10},
     quotas: [{name: day, limit: 1000, unit: DAY}]}
- id: bronze
  displayName: Bronze
  description: For small shops. Sold as “Starter” on the price list.
  entitlements:
  - name: default
    targets: [shop/orders/prod, shop/catalog/prod]
    rateLimit: {requestsPerSecond: 20, burst: 40}
    methodRateLimits: [{method: POST, path: /orders, requestsPerSecond: 2, burst: 4}]
    quotas:
    - {name: day, limit: 10000, unit: DAY, timeZone: Asia/Seoul}
    - {name: month, limit: 200000, unit: MONTH, timeZone: Asia/Seoul, onBreach: ALLOW}
- {id: partner, displayName: Partner trial, entitlements: [{name: default, quotas: [{name: week, limit: 10000, unit: WEEK}]}]}
subscribers:
- {id: harbour, displayName: Harbour Robotics, plans: [bronze]}
- {id: pine-post, displayName: Pine & Post, plans: [bronze, free]}
"""

# Every page, by the name of its picture.
PAGES = {
    "plans": "/console/plans",
    "plans-none-found": "/console/plans?q=nothing+is+called+that",
    "plan": "/console/plans/bronze",
    "plan-new": "/console/plans/new",
    "plan-edit": "/console/plans/bronze/edit",
    "plan-delete": "/console/plans/bronze/delete",
    "plan-connect": "/console/plans/bronze/connect",
    "plan-disconnect": "/console/plans/bronze/disconnect?target=shop%2Forders%2Fprod",
    "plan-import": "/console/plans/import",
    "targets": "/console/targets",
    "target": "/console/targets/shop%2Forders%2Fprod",
    "target-new": "/console/targets/new",
    "target-edit": "/console/targets/shop%2Forders%2Fprod/edit",
    "target-delete": "/console/targets/shop%2Forders%2Fprod/delete",
    "target-connect": "/console/targets/shop%2Forders%2Fprod/connect",
    "no-page": "/console/nothing-is-here",
}
# Of these there are pictures in docs/console.
PICTURES = ["plans", "plan", "plan-edit", "target"]
RATE = "entitlements[0].rate_limit.requests_per_second"
BURST = "entitlements[0].rate_limit.burst"
QUOTA = "entitlements[0].quotas[%d].%s"


class Tollgate:
    """A server with a folder of its own. With tokens where any are named, each with its scope."""

    def __init__(self, binary, **tokens):
        self.binary, self.folder = binary, tempfile.TemporaryDirectory()
        self.tokens, lines, args = {}, "tokens:\n", []
        for name, scope in tokens.items():
            made = subprocess.run([binary, "token", "create", name, "--scope", scope], capture_output=True, text=True, check=True)
            self.tokens[name], lines = made.stdout.strip(), lines + made.stderr
        if tokens:
            file = pathlib.Path(self.folder.name, "tokens.yaml")
            file.write_text(lines)
            args = ["--tokens-file", str(file)]
        command = [binary, "serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--data-dir", ":memory:"]
        log = open(pathlib.Path(self.folder.name, "log"), "w")
        self.process = subprocess.Popen(command + args, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder.name)
        ready = self.process.stdout.readline()
        self.grpc, self.http = re.search(r"grpc=(\S+) http=(\S+)", ready).groups()
        self.origin = f"http://{self.http}"

    def cli(self, *args, text=None, status=0):
        command = [self.binary, *args, "--server", self.grpc]
        if self.tokens:
            command += ["--token", self.tokens["operations"]]
        done = subprocess.run(command, capture_output=True, text=True, input=text)
        assert done.returncode == status, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


@contextlib.contextmanager
def closing(*things):
    try:
        yield things[0] if len(things) == 1 else things
    finally:
        for thing in reversed(things):
            thing.close()


def calm(browser):
    """The browser had nothing to complain of: no policy was broken, no script failed."""
    complaints = browser.complaints()
    assert not complaints, complaints


def create(browser, name):
    browser.open("/console/plans/new")
    browser.fill("display_name", name)
    browser.fill(RATE, "0.1")
    browser.fill(BURST, "3")
    browser.fill(QUOTA % (0, "limit"), "5")
    browser.press("Add a quota")
    browser.fill(QUOTA % (1, "limit"), "2,000")
    browser.choose(QUOTA % (1, "unit"), "MONTH")
    browser.press("Save")
    browser.arrives(f"/console/plans/{name.lower()}?done=created")


KEY = "a-key-of-twenty-characters-or-more"


def check(tollgate, target="shop/catalog/prod", refused=False):
    asked = ["check", "--key-file", "-", "--target", target, "--output", "json"]
    return json.loads(tollgate.cli(*asked, text=KEY, status=3 if refused else 0))


def journey(tollgate, browser):
    """What the documents of the clouds tell their users to do."""
    browser.open("/console/")
    browser.shows("No plan yet")
    create(browser, "Gold")
    browser.shows("0.1 requests a second, bursts of 3", "5 units, then refused", "2,000 units", "Not usable yet")

    # A mistake stands beside its field, all that was typed stays, and mending it saves.
    browser.press("Edit")
    browser.fill("description", "For large shops")
    browser.fill(BURST, "none")
    browser.press("Save")
    browser.shows("one field is wrong")
    assert browser.count(f"[name='{BURST}'][aria-invalid=true]") == 1
    browser.click(".note.bad a")
    browser.fill(BURST, "3")
    browser.press("Save")
    browser.shows("For large shops")

    # Two stages, from both sides.
    browser.press("Connect to stage…")
    browser.fill("target", "shop/orders/prod")
    browser.press("Connect")
    browser.arrives("?done=connected")
    tollgate.cli("target", "create", "shop/catalog/prod")
    browser.open("/console/targets/shop%2Fcatalog%2Fprod")
    browser.shows("No plan opens it")
    browser.press("Connect to a plan…")
    browser.click("input[value='gold default']")
    browser.press("Connect")
    browser.shows("Gold")
    browser.open("/console/plans/gold")
    assert browser.text().count("Disconnect…") == 2

    # A customer calls: admitted up to the burst, then refused for the rate.
    tollgate.cli("subscriber", "create", "acme", "--plan", "gold")
    tollgate.cli("key", "import", "acme-1", "--subscriber", "acme", "--value-file", "-", text=KEY)
    browser.open("/console/plans/gold")
    browser.shows("acme")
    receipts = [check(tollgate)["receipt"] for _ in range(3)]
    assert check(tollgate, refused=True)["reason"] == "RATE_EXCEEDED"
    # Of the three a 404 counts and a 503 does not: two of five units are used.
    tollgate.cli("report", "--receipt", receipts[0], "--status", "404")
    tollgate.cli("report", "--receipt", receipts[1], "--status", "503")
    # Without a rate the quota is what refuses, at the sixth that counts.
    browser.press("Edit")
    browser.fill(RATE, "")
    browser.fill(BURST, "")
    browser.press("Save")
    browser.shows("Request rate is not set")
    for _ in range(3):
        check(tollgate)
    assert check(tollgate, refused=True)["reason"] == "QUOTA_EXCEEDED"

    # Disconnected, its calls are refused; deleted, it is gone.
    browser.open("/console/plans/gold")
    browser.press("Disconnect…")
    browser.shows("1 subscriber has it")
    browser.press("Disconnect")
    browser.arrives("?done=disconnected")
    assert check(tollgate, "shop/orders/prod", refused=True)["reason"] == "NOT_SUBSCRIBED"
    check(tollgate, "shop/catalog/prod", refused=True)
    browser.press("Delete…")
    browser.shows("acme")
    browser.click("input[name=force]")
    browser.press("Delete Gold")
    browser.arrives("/console/plans?done=deleted")
    browser.shows("No plan yet")


def by_keyboard(browser):
    """A plan is made by keys alone, and Enter saves."""
    browser.open("/console/plans/new")

    def tab_to(name):
        for _ in range(60):
            if browser.focused() == name:
                return
            browser.type("Tab")
        raise AssertionError(f"{name} is not reached by Tab")

    tab_to("To the content")
    tab_to("display_name")
    browser.type("Keys")
    tab_to(RATE)
    browser.type("7")
    tab_to(QUOTA % (0, "limit"))
    browser.type("70", "Enter")
    browser.until("the plan", lambda: browser.path == "/console/plans/keys?done=created")
    browser.shows("7 requests a second", "70 units")


def with_script(browser):
    """A list is filtered while one types; a changed form is not left without a question."""
    browser.open("/console/plans")
    assert browser.count("#list tbody tr") == 3
    browser.fill("q", "bron")
    browser.until("the filtered list", lambda: browser.count("#list tbody tr") == 1)
    assert "q=bron" in browser.path
    browser.open("/console/plans/bronze/edit")
    browser.fill("description", "changed")
    asks = browser.run("const e = new Event('beforeunload', {cancelable: true}); window.dispatchEvent(e); return e.defaultPrevented")
    assert asks, "a changed form is left without a question"
    browser.open("/console/plans/bronze/edit")
    asks = browser.run("const e = new Event('beforeunload', {cancelable: true}); window.dispatchEvent(e); return e.defaultPrevented")
    assert not asks, "one that was not changed asks"


def signed_in(tollgate, driver):
    """Who may read sees, and cannot edit; who may edit signs in and out."""
    with closing(Browser(driver, tollgate.origin)) as browser:
        browser.open("/console/plans/bronze")
        browser.fill("token", tollgate.tokens["looker"])
        browser.press("Sign in")
        browser.shows("20 requests a second")
        browser.arrives("/console/plans/bronze")
        for words in ("Edit", "Duplicate", "Delete…", "Connect to stage…", "Disconnect…"):
            assert words not in browser.text(), words
        browser.open("/console/plans/bronze/edit")
        browser.shows("You may look, and not edit")
        browser.press("Sign out")
        browser.arrives("/console/sign-in")
        browser.open("/console/plans")
        browser.fill("token", "tgt_wrong")
        browser.press("Sign in")
        browser.shows("This token is not known")
        browser.fill("token", tollgate.tokens["operations"])
        browser.press("Sign in")
        browser.press("New plan")
        browser.fill("display_name", "Silver")
        browser.press("Save")
        browser.arrives("?done=created")
        calm(browser)


def looked_at(browser, axe, kind):
    """axe-core finds nothing on any page, nothing scrolls sideways, no policy is broken."""
    for name, path in PAGES.items():
        browser.open(path)
        found = browser.axe(axe)
        assert not found, f"{name}, {kind}: {found}"
        wide, window = browser.run("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= window, f"{name}, {kind}: {wide} px in a window of {window}"
        carried = browser.run(
            "return performance.getEntries().reduce((sum, one) => sum + (one.transferSize || 0), 0)")
        assert carried < 100_000, f"{name}: {carried} bytes"
    calm(browser)


def main():
    binary, axe = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]).read_text()
    folder = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with closing(Driver()) as driver:
        with closing(Tollgate(binary)) as tollgate:
            tollgate.cli("apply", "-f", "-", text=DECLARED)
            for width in (1280, 360):
                for dark in (False, True):
                    kind = f"{width} px, {'dark' if dark else 'light'}"
                    with closing(Browser(driver, tollgate.origin, width=width, dark=dark)) as browser:
                        if folder is None:
                            looked_at(browser, axe, kind)
                            print(f"looked at {len(PAGES)} pages: {kind}")
                        elif width == 1280 or not dark:
                            pictures(browser, folder, dark)
            if folder is None:
                with closing(Browser(driver, tollgate.origin)) as browser:
                    with_script(browser)
                    by_keyboard(browser)
                    calm(browser)
                print("filtered while typing, asked before a changed form was left, made a plan by keys alone")
        if folder is None:
            for script in (True, False):
                with closing(Tollgate(binary)) as tollgate, closing(Browser(driver, tollgate.origin, script=script)) as browser:
                    journey(tollgate, browser)
                print(f"went through the journey {'with' if script else 'without'} script")
            with closing(Tollgate(binary)) as tollgate, closing(Browser(driver, tollgate.origin, width=360, dark=True)) as browser:
                journey(tollgate, browser)
            print("went through the journey at 360 px, in dark")
            with closing(Tollgate(binary, operations="admin", looker="read")) as tollgate:
                tollgate.cli("apply", "-f", "-", text=DECLARED)
                signed_in(tollgate, driver)
            print("signed in as one who may read, and as one who may edit")


def pictures(browser, folder, dark):
    folder.mkdir(parents=True, exist_ok=True)
    theme = "dark" if dark else ("light" if browser.width > 400 else "narrow")
    for name in PICTURES if theme != "narrow" else ["plan"]:
        browser.open(PAGES[name])
        (folder / f"{name}-{theme}.png").write_bytes(browser.picture())


if __name__ == "__main__":
    main()
