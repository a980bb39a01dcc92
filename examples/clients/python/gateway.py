"""A small gateway: it asks tollgate before it forwards a request, and reports how it ended. See ../README.md.

The stubs come from the contract:
    python3 -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. tollgate/v1/decision.proto
"""

import argparse
import http.client
import http.server
import logging
import queue
import signal
import threading
import time
import uuid

import grpc
from tollgate.v1 import decision_pb2 as decision
from tollgate.v1 import decision_pb2_grpc as decision_grpc

# The caller waits for these, twice at most.
CHECK_TIMEOUT_S = 0.1
REPORT_TIMEOUT_S = 5.0
# The pause before a report is sent again, at first and at most.
REPORT_PAUSES_S = (0.1, 5.0)
# How long a receipt can be settled: `receipts.ttl` of the server.
RECEIPT_TTL_S = 3600
MOST_WAITING = 100_000
MOST_AT_ONCE = 1000
# How long a stop may take.
LAST_REPORTS_S = 5.0


class Tollgate:
    """Checks and reports. May be used by many threads."""

    def __init__(self, address):
        # Without this it would wait for up to two minutes before it connects again.
        channel = grpc.insecure_channel(address, options=[("grpc.max_reconnect_backoff_ms", 1000)])
        self._stub = decision_grpc.DecisionServiceStub(channel)
        self._waiting = queue.Queue(MOST_WAITING)
        self.lost_reports = 0
        threading.Thread(target=self._send_reports, daemon=True).start()

    def check(self, api_key, target, method, path):
        """The answer, which may be a denial. `None`: there is none, and so no verdict."""
        # The same id both times: what was charged and not heard of is not charged again.
        question = decision.CheckRequest(api_key=api_key, target=target, method=method, path=path, operation_id=str(uuid.uuid4()))
        for _ in range(2):
            try:
                return self._stub.Check(question, timeout=CHECK_TIMEOUT_S)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    logging.error("tollgate refuses the question: %s %s", error.code(), error.details())
                    return None
        return None

    def report(self, receipt, **ended):
        """Says how a request ended: `http_status=`, or `ending=` where there is no status. Nobody waits for it."""
        if not receipt:
            return
        try:
            self._waiting.put_nowait((time.monotonic(), decision.Outcome(receipt=receipt, **ended)))
        except queue.Full:
            # It stays charged.
            self.lost_reports += 1

    def close(self):
        """Sends what waits, for some seconds."""
        deadline = time.monotonic() + LAST_REPORTS_S
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)

    def _send_reports(self):
        while True:
            batch = [self._waiting.get()]
            while len(batch) < MOST_AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._send(batch)
            for _ in batch:
                self._waiting.task_done()

    def _send(self, batch):
        pause = REPORT_PAUSES_S[0]
        while batch:
            try:
                self._stub.Report(decision.ReportRequest(outcomes=[outcome for _, outcome in batch]), timeout=REPORT_TIMEOUT_S)
                return
            except grpc.RpcError as error:
                logging.warning("reports are sent again: %s %s", error.code(), error.details())
            time.sleep(pause)
            pause = min(pause * 2, REPORT_PAUSES_S[1])
            fresh = [one for one in batch if time.monotonic() - one[0] < RECEIPT_TTL_S]
            self.lost_reports += len(batch) - len(fresh)
            batch = fresh


class Handler(http.server.BaseHTTPRequestHandler):
    """One request of a caller."""

    def do_GET(self):
        args, tollgate = self.server.args, self.server.tollgate
        answer = tollgate.check(self.headers.get("x-api-key", ""), args.target, self.command, self.path)
        if answer is None and not args.fail_open:
            return self._answer(503, b"cannot be decided\n")
        if answer is not None and answer.verdict != decision.ALLOW:
            return self._answer(answer.http_status, decision.Reason.Name(answer.reason).encode() + b"\n", answer.headers)

        receipt = answer.receipt if answer else ""
        try:
            status, body = self._forward(args.upstream)
        except OSError:
            tollgate.report(receipt, ending=decision.Outcome.NO_RESPONSE)
            return self._answer(502, b"no response\n")
        tollgate.report(receipt, http_status=status)
        self._answer(status, body, answer.headers if answer else ())

    def _forward(self, upstream):
        connection = http.client.HTTPConnection(upstream, timeout=30)
        try:
            connection.request(self.command, self.path)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(error) from error
        finally:
            connection.close()

    def _answer(self, status, body, headers=()):
        self.send_response(status)
        for header in headers:
            self.send_header(header.name, header.value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tollgate", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--fail-open", action="store_true")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.args = parser.parse_args()
    server.tollgate = Tollgate(server.args.tollgate)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
    server.tollgate.close()


if __name__ == "__main__":
    main()
