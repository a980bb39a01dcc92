#!/usr/bin/env python3
"""How long the console's pages take with 10,000 plans and 100,000 subscribers: speed.py TOLLGATE. It prints, and asserts nothing."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

PAGES = ["plans", "plans?sort=id", "plans?sort=subscribers", "plans?q=plan+0999", "plans?page=400", "plans/p00042",
         "plans/p00042/edit", "plans/p00042/connect", "targets", "targets/t7", "targets/t7/connect"]
TIMES = 5


def plan(number):
    quotas = [{"name": "day", "limit": 100, "unit": "DAY"}]
    gives = {"name": "all", "targets": [f"t{number % 500}"], "rateLimit": {"requestsPerSecond": 5}, "quotas": quotas}
    return {"id": f"p{number:05}", "displayName": f"Plan {number * 7919 % 10_000:05}", "entitlements": [gives]}


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--data-dir", ":memory:"]
        log = open(pathlib.Path(folder, "log"), "w")
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
        try:
            grpc, http = re.search(r"grpc=(\S+) http=(\S+)", server.stdout.readline()).groups()
            declared = {
                "plans": [plan(number) for number in range(10_000)],
                "subscribers": [{"id": f"s{number:06}", "plans": [f"p{number % 10_000:05}"]} for number in range(100_000)],
            }
            apply = [binary, "apply", "-f", "-", "--server", grpc]
            subprocess.run(apply, input=json.dumps(declared), text=True, stdout=subprocess.DEVNULL, check=True)
            for page in PAGES:
                took_ms = []
                for _ in range(TIMES):
                    began = time.monotonic()
                    text = urllib.request.urlopen(f"http://{http}/console/{page}").read()
                    took_ms.append((time.monotonic() - began) * 1000)
                print(f"{page:24} {sorted(took_ms)[TIMES // 2]:5.0f} ms {len(text):7} bytes")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
