"""A client in Python, from generated stubs: makes a plan, and uses it. Run by .ci/clients."""

import sys

import grpc
from google.protobuf import empty_pb2
from tollgate.v1 import decision_pb2 as decision
from tollgate.v1 import decision_pb2_grpc as decision_grpc
from tollgate.v1 import usage_plans_pb2 as plans
from tollgate.v1 import usage_plans_pb2_grpc as plans_grpc

KEY = "a-key-of-the-python-client"
TARGET = "python/prod"


def main(address):
    channel = grpc.insecure_channel(address)
    books = plans_grpc.UsagePlanServiceStub(channel)
    gateway = decision_grpc.DecisionServiceStub(channel)

    quota = plans.Quota(name="yearly", limit=2, unit=plans.Quota.YEAR)
    entitlement = plans.Entitlement(name="all", targets=[TARGET], quotas=[quota])
    plan = plans.UsagePlan(id="python", display_name="Python", entitlements=[entitlement])
    made = books.CreateUsagePlan(plans.CreateUsagePlanRequest(usage_plan=plan))
    assert made.etag and made.entitlements[0].quotas[0].limit == 2, made
    assert books.GetUsagePlan(plans.GetUsagePlanRequest(id="python")) == made
    books.CreateSubscriber(plans.CreateSubscriberRequest(subscriber=plans.Subscriber(id="python", plans=["python"])))
    key = plans.ApiKey(id="python-1", subscriber="python")
    books.ImportApiKey(plans.ImportApiKeyRequest(api_key=key, value=KEY))

    def check():
        return gateway.Check(decision.CheckRequest(api_key=KEY, target=TARGET, method="GET", path="/"))

    first, second, third = check(), check(), check()
    assert first.verdict == second.verdict == decision.ALLOW, (first, second)
    assert (third.verdict, third.reason, third.http_status) == (decision.DENY, decision.QUOTA_EXCEEDED, 429), third
    outcomes = [decision.Outcome(receipt=first.receipt, http_status=503), decision.Outcome(receipt=second.receipt, http_status=200)]
    report = gateway.Report(decision.ReportRequest(outcomes=outcomes))
    assert list(report.results) == [decision.REFUNDED, decision.COUNTED], report
    assert check().verdict == decision.ALLOW, "the refunded unit is there again"

    batch = decision.CheckBatch(id=7, api_keys=[KEY, "unknown"], targets=[TARGET])
    (answer,) = gateway.CheckStream(iter([batch]))
    assert (answer.id, list(answer.verdicts)) == (7, [decision.DENY, decision.DENY]), answer
    assert list(answer.reasons) == [decision.QUOTA_EXCEEDED, decision.API_KEY_UNKNOWN], answer

    usage = books.GetUsage(plans.GetUsageRequest(subscriber="python"))
    assert [(used.quota, used.used, used.remaining) for used in usage.quotas] == [("yearly", 2, 0)], usage
    try:
        books.GetUsagePlan(plans.GetUsagePlanRequest(id="nowhere"))
        raise AssertionError("there is no such plan")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    assert books.DeleteApiKey(plans.DeleteApiKeyRequest(id="python-1")) == empty_pb2.Empty()
    assert check().reason == decision.API_KEY_UNKNOWN
    print("Python: made a plan, checked, reported")


main(sys.argv[1])
