"""The gateways of `examples/clients`, each against a real server: run by .ci/clients.

    gateways.py TOLLGATE NAME=COMMAND...

A gateway is asked as a caller asks, tollgate is stopped and started under it, and the books say what came of it.
"""

import contextlib
import http.client
import http.server
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time

TARGET = "api/prod"
LIMIT = 3
PATIENCE_S = 60


class Upstream(http.server.BaseHTTPRequestHandler):
    """/200 and the like answer so; /503-later says that it was asked, and answers when it is told to; /none hangs up."""

    asked, told = threading.Event(), threading.Event()

    def do_GET(self):
        word = self.path.strip("/")
        if word == "none":
            self.close_connection = True
            return
        if word.endswith("-later"):
            self.asked.set()
            self.told.wait(PATIENCE_S)
        self.send_response(int(word[:3]))
        self.send_header("content-length", "2")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(b"hi")

    def log_message(self, *_):
        pass


class Server:
    """A tollgate that can be stopped, and started where it was."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.grpc = binary, folder, "127.0.0.1:0"
        self.start()

    def start(self):
        command = [self.binary, "serve", "--grpc-addr", self.grpc, "--http-addr", "127.0.0.1:0", "--data-dir", f"{self.folder}/data"]
        self.process, line = started(command, "tollgate ready", f"{self.folder}/tollgate.log", {"TOLLGATE_LEDGER_MAX_WAIT_MS": "60000"})
        self.grpc = line.split("grpc=")[1].split()[0]

    def stop(self):
        end(self.process)

    def run(self, line):
        ran = subprocess.run([self.binary, *line.split(), "--server", self.grpc, "--output", "json"], capture_output=True, text=True)
        assert ran.returncode == 0, f"{line}: {ran.stderr}"
        return json.loads(ran.stdout)

    def used(self, subscriber):
        (quota,) = self.run(f"usage --subscriber {subscriber}")["quotas"]
        return quota["used"]


def started(command, word, log, env=None):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(log, "ab"), text=True, env=os.environ | (env or {}))
    line = process.stdout.readline()
    if not line.startswith(word):
        process.kill()
        sys.exit(f"{shlex.join(command)} says `{line}`\n{open(log).read()}")
    return process, line


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM), process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def ask(gateway, path, key):
    connection = http.client.HTTPConnection(gateway, timeout=PATIENCE_S)
    connection.request("GET", path, headers={"x-api-key": key} if key else {})
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read().decode().strip()
    connection.close()
    return answer


def until(what, is_so):
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.02)


def scenario(server, name, command, upstream):
    """All that README.md of the examples says that a gateway does right."""
    log = f"{server.folder}/{name}.log"
    args = [*shlex.split(command), "--tollgate", server.grpc, "--target", TARGET, "--upstream", upstream]
    server.run(f"subscriber create {name} --plan three")
    key = f"a-key-of-the-gateway-in-{name}-and-more"
    server.run(f"key import {name}-1 --subscriber {name} --value {key}")
    process, line = started(args, "listening ", log)
    gateway = line.split()[1]
    try:
        # A denial is an answer.
        status, _, body = ask(gateway, "/200", "")
        assert status == 403 and body.endswith("API_KEY_MISSING"), (status, body)
        # What fails is given back, and what has no response, too.
        for path, wanted in (("/200", 200), ("/503", 503), ("/none", 502), ("/404", 404)):
            status, headers, _ = ask(gateway, path, key)
            assert status == wanted, (path, status)
        until("two refunds", lambda: server.used(name) == 2)

        # The response comes while tollgate is away: the caller does not wait, and the report comes when it is back.
        Upstream.asked.clear(), Upstream.told.clear()
        later = []
        caller = threading.Thread(target=lambda: later.append(ask(gateway, "/503-later", key)))
        caller.start()
        assert Upstream.asked.wait(PATIENCE_S)
        server.stop()
        Upstream.told.set()
        caller.join(PATIENCE_S)
        assert later and later[0][0] == 503, later
        # No answer is no verdict. This one fails closed.
        status, _, body = ask(gateway, "/200", key)
        assert (status, body) == (503, "cannot be decided"), (status, body)
        opened, line = started([*args, "--fail-open"], "listening ", log)
        assert ask(line.split()[1], "/200", key)[0] == 200
        end(opened)
        server.start()
        until("the refund after a restart", lambda: server.used(name) == 2)

        # It goes on by itself, to the limit and no further.
        until("a check", lambda: ask(gateway, "/200", key)[0] in (200, 429))
        status, headers, body = ask(gateway, "/200", key)
        assert status == 429 and body.endswith("QUOTA_EXCEEDED"), (status, body)
        assert int({name.lower(): value for name, value in headers.items()}["retry-after"]) > 0, headers
        assert server.used(name) == LIMIT
        end(process)
    except BaseException:
        process.kill()
        print(f"---- {name} ----\n{open(log).read()}", file=sys.stderr)
        raise
    print(f"{name}: checks, forwards, reports; tollgate away and back")


def main(binary, *gateways):
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(os.path.abspath(binary), folder)
        try:
            server.run(f"plan create three --target {TARGET} --quota yearly={LIMIT}/year")
            for gateway in gateways:
                name, command = gateway.split("=", 1)
                scenario(server, name, command, f"127.0.0.1:{upstream.server_port}")
        finally:
            server.process.kill()


main(*sys.argv[1:])
