//! Real calls between programs of two ages, in every method and every field.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key};
use prost_reflect::ReflectMessage;
use serde_json::{Value as Json, json};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tollgate::grpc::codec::Raw;
use tollgate::grpc::pb::tollgate as pb;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tonic::codec::Streaming;
use tonic::codegen::{BoxFuture, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::*;
use crate::server::Tollgate;

/// A program that was built from the first protos, and knows nothing else.
struct OldClient {
    pool: DescriptorPool,
    channel: Channel,
    /// It was built from later ones instead: in all messages that it sends are fields that nobody
    /// knows yet.
    of_tomorrow: bool,
    edits: usize,
    /// The fields that it has sent and got, as `Message.field`, by method.
    used: BTreeMap<String, BTreeSet<String>>,
}

impl OldClient {
    async fn new(tollgate: &Tollgate) -> Self {
        let channel = Endpoint::from_shared(format!("http://{}", tollgate.grpc_addr()))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self { pool: v0(), channel, of_tomorrow: false, edits: 0, used: BTreeMap::new() }
    }

    async fn try_call(&mut self, method: &str, request: Json) -> Result<Json, Status> {
        let service = if ["Check", "CheckStream", "Report", "ReportStream"].contains(&method) {
            "DecisionService"
        } else {
            "UsagePlanService"
        };
        let service = self.pool.get_service_by_name(&format!("tollgate.v1.{service}")).unwrap();
        let described = service.methods().find(|known| known.name() == method).unwrap();
        let request = DynamicMessage::deserialize(described.input(), request).unwrap();
        let used = self.used.entry(method.to_owned()).or_default();
        note(&request, used);
        let request = if self.of_tomorrow { with_more(&request) } else { request };
        let path = format!("/{}/{method}", service.full_name()).parse().unwrap();
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        // One message each way: on the wire that is the same for methods that stream and for those
        // that do not.
        let messages = tokio_stream::iter([request.encode_to_vec()]);
        let mut answers = client.streaming(Request::new(messages), path, Raw).await?.into_inner();
        let answer = answers.message().await?.unwrap();
        let answer = DynamicMessage::decode(described.output(), answer).unwrap();
        note(&answer, used);
        Ok(serde_json::to_value(&answer).unwrap())
    }

    async fn call(&mut self, method: &str, request: Json) -> Json {
        self.try_call(method, request.clone())
            .await
            .unwrap_or_else(|status| panic!("{method} {request}: {status:?}"))
    }

    /// An edit: first only validated, then made under a name, and then once more, which changes
    /// nothing.
    async fn edit(&mut self, method: &str, request: Json) -> Json {
        let mut validated = request.clone();
        validated["validateOnly"] = true.into();
        self.call(method, validated).await;
        let mut named = request;
        self.edits += 1;
        named["requestId"] = format!("edit {}", self.edits).into();
        let made = self.call(method, named.clone()).await;
        let mut again = self.call(method, named).await;
        if method == "CreateApiKey" {
            assert_eq!(again["value"], Json::Null, "the value is shown once");
            again["value"] = made["value"].clone();
        }
        assert_eq!(again, made);
        made
    }
}

/// The message with fields of every kind that nobody knows yet, in it and in all messages in it.
fn with_more(message: &DynamicMessage) -> DynamicMessage {
    let mut more = message.clone();
    for (_, value) in more.fields_mut() {
        match value {
            Value::Message(inner) => *inner = with_more(inner),
            Value::List(items) => items.iter_mut().for_each(|item| {
                if let Value::Message(inner) = item {
                    *inner = with_more(inner);
                }
            }),
            _ => {}
        }
    }
    let mut bytes = more.encode_to_vec();
    let kinds = [
        (WireType::Varint, &b"\x96\x01"[..]),
        (WireType::LengthDelimited, b"\x03new"),
        (WireType::SixtyFourBit, &[1; 8]),
        (WireType::ThirtyTwoBit, &[2; 4]),
    ];
    for (number, (kind, value)) in (1000..).zip(kinds) {
        encode_key(number, kind, &mut bytes);
        bytes.extend_from_slice(value);
    }
    DynamicMessage::decode(message.descriptor(), bytes.as_slice()).unwrap()
}

/// The fields that are set, in this message and those in it.
fn note(message: &DynamicMessage, used: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        used.insert(format!("{}.{}", message.descriptor().full_name(), field.name()));
        let values = value.as_list().unwrap_or(std::slice::from_ref(value));
        values.iter().filter_map(Value::as_message).for_each(|inner| note(inner, used));
    }
}

/// All fields of a message and of those in it.
fn fields(message: &MessageDescriptor, all: &mut BTreeSet<String>) {
    for field in message.fields() {
        all.insert(format!("{}.{}", message.full_name(), field.name()));
        if let Some(inner) = field.kind().as_message().filter(|inner| !inner.is_map_entry()) {
            fields(inner, all);
        }
    }
}

fn about() -> Json {
    json!({"description": "A description", "labels": {"team": "x"}, "etag": "not read", "revision": "7",
           "createTime": "2026-01-01T00:00:00Z", "updateTime": "2026-01-01T00:00:00Z"})
}

fn with(mut to: Json, more: Json) -> Json {
    to.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    to
}

const VALUE: &str = "a-value-of-twenty-characters";
const OTHER: &str = "another-value-of-twenty-characters";

#[tokio::test]
async fn a_client_of_the_first_contract_does_everything_with_the_server_of_today() {
    let tollgate = Tollgate::start(&[], &[crate::server::PATIENT]);
    let mut old = OldClient::new(&tollgate).await;
    everything(&mut old).await;

    for (name, method) in methods(&v0()) {
        let mut all = BTreeSet::new();
        fields(&method.input(), &mut all);
        fields(&method.output(), &mut all);
        all.retain(|field| field.starts_with("tollgate.v1."));
        // What an edit takes and gives is the resource, whose fields the edits as a whole must
        // cover; so must those of the books.
        let used: BTreeSet<&String> = old
            .used
            .get(method.name())
            .unwrap_or_else(|| panic!("{name} was called"))
            .iter()
            .collect();
        let own = |field: &String| {
            [method.input(), method.output()]
                .iter()
                .any(|message| field.starts_with(&format!("{}.", message.full_name())))
        };
        let everywhere: BTreeSet<&String> = old.used.values().flatten().collect();
        let resources = ["UsagePlan.", "Target.", "Subscriber.", "ApiKey.", "QuotaUsage."]
            .map(|name| format!("tollgate.v1.{name}"));
        let missing: Vec<_> = all
            .iter()
            .filter(|field| {
                let shared =
                    !own(field) || resources.iter().any(|resource| field.starts_with(resource));
                !if shared { everywhere.contains(field) } else { used.contains(field) }
            })
            // A crash would have to lose units.
            .filter(|field| *field != "tollgate.v1.QuotaUsage.lost")
            .collect();
        assert!(missing.is_empty(), "{name}: {missing:?} were never sent or got");
    }
}

#[tokio::test]
async fn fields_that_the_server_does_not_know_change_nothing() {
    let tollgate = Tollgate::start(&[], &[crate::server::PATIENT]);
    let mut later = OldClient { of_tomorrow: true, ..OldClient::new(&tollgate).await };
    everything(&mut later).await;
}

async fn everything(client: &mut OldClient) {
    declare(client).await;
    list_and_update(client).await;
    decide(client).await;
    count(client).await;
    delete(client).await;
}

#[tokio::test]
async fn values_that_the_server_does_not_know_fail_only_the_call_that_needs_them() {
    let tollgate = Tollgate::start(&[], &[crate::server::PATIENT]);
    let mut client = OldClient::new(&tollgate).await;
    declare(&mut client).await;
    let plan = |entitlement: Json, quota: Json| {
        let quota = with(json!({"name": "q", "limit": "1", "unit": "WEEK"}), quota);
        json!({"id": "new", "displayName": "Renamed", "entitlements": [with(json!({"name": "all", "quotas": [quota]}), entitlement)]})
    };
    let none = || json!({});
    for (field, plan) in [
        ("counter_scope", plan(json!({"counterScope": 99}), none())),
        ("unit", plan(none(), json!({"unit": 99}))),
        ("week_start", plan(none(), json!({"weekStart": 99}))),
        ("on_breach", plan(none(), json!({"onBreach": 99}))),
        ("charge", plan(none(), json!({"charge": 99}))),
    ] {
        let refused =
            client.try_call("CreateUsagePlan", json!({"usagePlan": plan})).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains(field), "{field}: {}", refused.message());
        // Who reads what a later server wrote, and gives back another field of it.
        let before = client.call("GetUsagePlan", json!({"id": "gold"})).await;
        let update =
            json!({"usagePlan": with(plan, json!({"id": "gold"})), "updateMask": "displayName"});
        let updated = client.call("UpdateUsagePlan", update).await;
        assert_eq!(
            (&updated["displayName"], &updated["entitlements"]),
            (&json!("Renamed"), &before["entitlements"])
        );
    }
    let caller = json!({"apiKey": VALUE, "target": "orders"});
    let outcomes = json!({"outcomes": [{"caller": caller, "ending": 99}, {"caller": caller, "ending": "NO_RESPONSE"}]});
    assert_eq!(client.call("Report", outcomes).await["results"], json!(["INVALID", "COUNTED"]));
}

async fn declare(old: &mut OldClient) {
    let target = json!({"id": "orders", "displayName": "Orders", "rateLimit": {"requestsPerSecond": 1000.5, "burst": "2000"},
        "methodRateLimits": [{"method": "POST", "path": "/x", "requestsPerSecond": 500, "burst": "600", "replacesGeneral": true}],
        "openMethods": [{"method": "GET", "path": "/open"}]});
    let made = old.edit("CreateTarget", json!({"target": with(target, about())})).await;
    assert_eq!(
        (&made["rateLimit"]["burst"], &made["openMethods"][0]["path"]),
        (&json!("2000"), &json!("/open"))
    );
    let weekly = json!({"name": "weekly", "limit": "1", "unit": "WEEK", "timeZone": "Asia/Seoul", "weekStart": "SUNDAY", "onBreach": "ALLOW",
        "countStatuses": ["2xx", "404"], "charge": "AT_CHECK"});
    let yearly = json!({"name": "yearly", "limit": "4", "unit": "YEAR", "onBreach": "REJECT", "charge": "AT_CHECK"});
    let reported =
        json!({"name": "reported", "limit": "100", "unit": "MONTH", "charge": "AT_REPORT"});
    let method = json!({"method": "GET", "path": "/users/{id}", "target": "orders", "requestsPerSecond": 100, "burst": "100", "replacesGeneral": false});
    let all = json!({"name": "all", "description": "Everything", "targets": ["orders"], "rateLimit": {"requestsPerSecond": 100, "burst": "100"},
        "methodRateLimits": [method], "quotas": [weekly, yearly, reported], "counterScope": "KEY"});
    let plan = json!({"id": "gold", "displayName": "Gold", "entitlements": [all]});
    let made = old.edit("CreateUsagePlan", json!({"usagePlan": with(plan, about())})).await;
    assert_eq!(made["entitlements"][0]["quotas"][0]["weekStart"], "SUNDAY");
    let subscriber = json!({"id": "acme", "displayName": "Acme", "plans": ["gold"]});
    assert_eq!(
        old.edit("CreateSubscriber", json!({"subscriber": with(subscriber, about())})).await["plans"],
        json!(["gold"])
    );
    let key = |id: &str| {
        let key = json!({"id": id, "subscriber": "acme", "displayName": "Key", "enabled": true, "lastFour": "not read",
            "notBefore": "2020-01-01T00:00:00Z", "expireTime": "2500-01-01T00:00:00Z"});
        with(key, about())
    };
    let made = old.edit("CreateApiKey", json!({"apiKey": key("made")})).await;
    assert!(made["value"].as_str().unwrap().len() > 20);
    assert_eq!(
        old.edit("ImportApiKey", json!({"apiKey": key("imported"), "value": VALUE})).await["lastFour"],
        "ters"
    );

    // A second of each, by way of a set, with the default plan that the first target gets later.
    let quota = json!({"name": "daily", "limit": "10", "unit": "DAY"});
    let silver = json!({"id": "silver", "entitlements": [{"name": "all", "targets": ["users", "orders"], "quotas": [quota]}]});
    let beta = json!({"subscriber": {"id": "beta", "plans": ["silver"]}, "keys": [{"apiKey": {"id": "beta-1"}, "value": OTHER}]});
    let set = json!({"targets": [{"id": "users", "displayName": "Users"}], "usagePlans": [silver], "subscribers": [beta]});
    let done = old.edit("Apply", set.clone()).await;
    assert_eq!(done["changes"].as_array().unwrap().len(), 4);
    let mut changed = set;
    changed["targets"][0]["displayName"] = "All users".into();
    assert_eq!(
        old.edit("Apply", changed.clone()).await["changes"][0]["fields"],
        json!(["display_name"])
    );
    let named = json!({"subscriber": {"id": "acme", "plans": ["gold"]}, "keys": [{"apiKey": {"id": "imported"}}]});
    let pruned = json!({"subscribers": [named, changed["subscribers"][0]], "prune": true, "validateOnly": true});
    let would = old.call("Apply", pruned).await;
    assert!(
        would["changes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|change| change["action"] == "DELETE" && change["id"] == "made"),
        "{would}"
    );
}

async fn list_and_update(old: &mut OldClient) {
    for (one, many, list) in [
        ("Target", "Targets", "targets"),
        ("UsagePlan", "UsagePlans", "usagePlans"),
        ("Subscriber", "Subscribers", "subscribers"),
        ("ApiKey", "ApiKeys", "apiKeys"),
    ] {
        let request = json!({"pageSize": 1, "orderBy": "id desc", "filter": "s"});
        let mut first =
            old.call(&format!("List{many}"), json!({"pageSize": 1, "orderBy": "id desc"})).await;
        let total = first["totalSize"].as_i64().unwrap();
        assert!(total >= 2, "{first}");
        first = old
            .call(
                &format!("List{many}"),
                json!({"pageSize": 1, "orderBy": "id desc", "pageToken": first["nextPageToken"]}),
            )
            .await;
        assert_eq!(first[list].as_array().unwrap().len(), 1);
        old.call(&format!("List{many}"), request).await;
        let found = first[list][0].clone();
        let shown = old.call(&format!("Get{one}"), json!({"id": found["id"]})).await;
        assert_eq!(shown, found);
        let field = format!("{}{}", one[..1].to_lowercase(), &one[1..]);
        let update = json!({&field: {"id": found["id"], "etag": found["etag"], "displayName": "Renamed"}, "updateMask": "displayName"});
        let updated = old.edit(&format!("Update{one}"), update).await;
        assert_eq!(updated["displayName"], "Renamed");
        let rest = |resource: &Json| {
            let mut rest = resource.as_object().unwrap().clone();
            rest.retain(|name, _| {
                !["displayName", "etag", "revision", "updateTime"].contains(&name.as_str())
            });
            rest
        };
        assert_eq!(rest(&updated), rest(&found));
    }
    let default =
        json!({"target": {"id": "orders", "defaultPlan": "silver"}, "updateMask": "defaultPlan"});
    assert_eq!(old.edit("UpdateTarget", default).await["defaultPlan"], "silver");
    let plan = old.call("GetUsagePlan", json!({"id": "silver"})).await;
    let attach =
        json!({"plan": "silver", "entitlement": "all", "target": "extra", "etag": plan["etag"]});
    let attached = old.edit("AttachTarget", attach).await;
    assert_eq!(attached["entitlements"][0]["targets"], json!(["users", "orders", "extra"]));
    let detached = old
        .edit(
            "DetachTarget",
            json!({"plan": "silver", "target": "extra", "etag": attached["etag"]}),
        )
        .await;
    assert_eq!(detached["entitlements"][0]["targets"], json!(["users", "orders"]));
}

async fn decide(old: &mut OldClient) {
    let check = |operation: &str| json!({"apiKey": VALUE, "target": "orders", "method": "GET", "path": "/users/1", "cost": "1", "operationId": operation});
    let first = old.call("Check", check("a")).await;
    assert_eq!(
        (&first["verdict"], &first["httpStatus"], &first["plan"]),
        (&json!("ALLOW"), &json!(200), &json!("gold"))
    );
    assert_eq!(old.call("Check", check("a")).await["receipt"], first["receipt"]);
    let second = old.call("Check", check("b")).await;
    assert_eq!(second["overQuota"], true, "of the weekly quota, which allows");
    let batch = json!({"id": "7", "apiKeys": [VALUE, VALUE, "unknown"], "targets": ["orders"], "methods": ["GET"], "paths": ["/"], "costs": ["1"],
        "operationIds": ["", "", ""]});
    let many = old.call("CheckStream", batch).await;
    assert_eq!(
        (&many["verdicts"], &many["reasons"][2]),
        (&json!(["ALLOW", "ALLOW", "DENY"]), &json!("API_KEY_UNKNOWN"))
    );
    let batch = json!({"apiKeys": [VALUE], "targets": ["orders"]});
    assert!(
        old.call("CheckStream", batch).await["retryAfterUs"][0]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    assert!(
        old.call("CheckStream", json!({"apiKeys": [VALUE], "targets": ["a", "b"]})).await["error"]
            .is_string()
    );
    let denied = old.call("Check", check("c")).await;
    assert_eq!((&denied["reason"], &denied["httpStatus"]), (&json!("QUOTA_EXCEEDED"), &json!(429)));
    assert!(
        denied["limits"].as_array().unwrap().iter().any(|limit| limit["violated"] == true)
            && denied["retryAfter"].is_string()
    );
    assert_eq!(
        old.call("Check", json!({"apiKey": "unknown", "target": "orders"})).await["never"],
        true
    );

    let caller = json!({"apiKey": VALUE, "target": "orders"});
    let outcomes = json!({"outcomes": [
        {"receipt": first["receipt"], "httpStatus": 503},
        {"receipt": first["receipt"], "httpStatus": 503},
        {"receipt": second["receipt"], "grpcStatus": 0, "cost": "1"},
        {"caller": caller, "ending": "NO_RESPONSE", "madeByGateway": true},
        {"receipt": "forged"}
    ]});
    assert_eq!(
        old.call("Report", outcomes.clone()).await["results"],
        json!(["REFUNDED", "DUPLICATE", "COUNTED", "COUNTED", "INVALID"])
    );
    assert_eq!(old.call("ReportStream", outcomes).await["results"][1], "DUPLICATE");
}

async fn count(old: &mut OldClient) {
    for scope in
        [json!({"subscriber": "acme"}), json!({"apiKey": "imported"}), json!({"plan": "gold"})]
    {
        let asked = with(scope, json!({"startDate": "2026-01-01", "endDate": "2499-01-01"}));
        let usage = old.call("GetUsage", asked).await;
        assert!(
            usage["quotas"]
                .as_array()
                .unwrap()
                .iter()
                .any(|quota| quota["quota"] == "yearly" && quota["used"] == "3"),
            "{usage}"
        );
        let day = &usage["days"][0];
        assert_eq!(
            (&day["admitted"], &day["refused"]["QUOTA_EXCEEDED"], &day["responses"]["5xx"]),
            (&json!("4"), &json!("2"), &json!("1")),
            "{usage}"
        );
    }
    let of_key =
        json!({"apiKey": "imported", "plan": "gold", "entitlement": "all", "quota": "yearly"});
    let of_subscriber =
        json!({"subscriber": "beta", "plan": "silver", "entitlement": "all", "quota": "daily"});
    for (counter, change, remaining) in [
        (&of_key, json!({"add": "5"}), "6"),
        (&of_key, json!({"setRemaining": "2"}), "2"),
        (&of_subscriber, json!({"reset": true}), "10"),
    ] {
        let named = json!({"requestId": format!("{change}")});
        let granted = old.call("Grant", with(with(counter.clone(), change), named)).await;
        assert_eq!(granted["remaining"], remaining, "{granted}");
    }
}

async fn delete(old: &mut OldClient) {
    for (one, id) in
        [("ApiKey", "made"), ("Subscriber", "acme"), ("UsagePlan", "gold"), ("Target", "users")]
    {
        let etag = old.call(&format!("Get{one}"), json!({"id": id})).await["etag"].clone();
        old.edit(&format!("Delete{one}"), json!({"id": id, "etag": etag, "force": true})).await;
        let gone = old.try_call(&format!("Get{one}"), json!({"id": id})).await.unwrap_err();
        assert_eq!(gone.code(), tonic::Code::NotFound);
    }
}

/// A server that was built from the first protos: it reads what it is asked with them, and fills
/// every field of its answer.
#[derive(Clone)]
struct OldServer(DescriptorPool);

impl OldServer {
    fn answer(&self, path: &str, request: &Bytes) -> Result<Vec<u8>, Status> {
        let methods = methods(&self.0);
        let (_, method) = methods
            .iter()
            .find(|(name, _)| format!("/{name}") == path)
            .ok_or_else(|| Status::unimplemented(path.to_owned()))?;
        let read = DynamicMessage::decode(method.input(), request.clone())
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut wanted = BTreeSet::new();
        note(&filled(&method.input(), 0), &mut wanted);
        let mut got = BTreeSet::new();
        note(&read, &mut got);
        let missing: Vec<_> = wanted.difference(&got).collect();
        if missing.is_empty() {
            Ok(filled(&method.output(), 0).encode_to_vec())
        } else {
            Err(Status::internal(format!("{missing:?} did not come")))
        }
    }
}

/// One call of the old server.
struct Answering(OldServer, String);

impl tonic::server::StreamingService<Bytes> for Answering {
    type Response = Vec<u8>;
    type ResponseStream = tokio_stream::Once<Result<Vec<u8>, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (server, path) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            let request = request.into_inner().next().await.unwrap()?;
            Ok(Response::new(tokio_stream::once(server.answer(&path, &request))))
        })
    }
}

async fn serve_old() -> Channel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = OldServer(v0());
    let answer = move |request: http::Request<axum::body::Body>| {
        let answering = Answering(server.clone(), request.uri().path().to_owned());
        async move { tonic::server::Grpc::new(Raw).streaming(answering, request).await }
    };
    let routes = tonic::service::Routes::from(axum::Router::new().fallback(answer));
    // It ends with the runtime of the test.
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// A request of today with every field set.
fn asked<T: Message + Default>(method: &MethodDescriptor) -> T {
    filled(&method.input(), 0).transcode_to().unwrap()
}

/// Whether an answer of the old server came as it was sent.
fn came(name: &str, answer: &impl Message) {
    let (_, method) = methods(&v0()).into_iter().find(|(known, _)| known == name).unwrap();
    let came = DynamicMessage::decode(method.output(), answer.encode_to_vec().as_slice()).unwrap();
    assert_eq!(came, filled(&method.output(), 0), "{name}");
}

#[tokio::test]
async fn a_client_of_today_does_everything_with_a_server_of_the_first_contract() {
    let channel = serve_old().await;
    let today: BTreeMap<String, MethodDescriptor> = methods(&today()).into_iter().collect();
    let mut called = BTreeSet::new();
    let mut decisions = DecisionServiceClient::new(channel.clone());
    let mut plans = UsagePlanServiceClient::new(channel);
    macro_rules! unary {
        ($client:ident, $service:literal: $($method:ident $name:literal $request:ident),+ $(,)?) => {
            $({
                let name = concat!("tollgate.v1.", $service, "/", $name);
                let answer = $client.$method(asked::<pb::$request>(&today[name])).await.unwrap_or_else(|status| panic!("{name}: {status:?}"));
                came(name, answer.get_ref());
                called.insert(name.to_owned());
            })+
        };
    }
    unary!(decisions, "DecisionService": check "Check" CheckRequest, report "Report" ReportRequest);
    unary!(plans, "UsagePlanService":
        create_usage_plan "CreateUsagePlan" CreateUsagePlanRequest, get_usage_plan "GetUsagePlan" GetUsagePlanRequest, list_usage_plans "ListUsagePlans" ListUsagePlansRequest,
        update_usage_plan "UpdateUsagePlan" UpdateUsagePlanRequest, delete_usage_plan "DeleteUsagePlan" DeleteUsagePlanRequest,
        create_target "CreateTarget" CreateTargetRequest, get_target "GetTarget" GetTargetRequest, list_targets "ListTargets" ListTargetsRequest, update_target "UpdateTarget" UpdateTargetRequest, delete_target "DeleteTarget" DeleteTargetRequest,
        create_subscriber "CreateSubscriber" CreateSubscriberRequest, get_subscriber "GetSubscriber" GetSubscriberRequest, list_subscribers "ListSubscribers" ListSubscribersRequest,
        update_subscriber "UpdateSubscriber" UpdateSubscriberRequest, delete_subscriber "DeleteSubscriber" DeleteSubscriberRequest,
        create_api_key "CreateApiKey" CreateApiKeyRequest, import_api_key "ImportApiKey" ImportApiKeyRequest, get_api_key "GetApiKey" GetApiKeyRequest, list_api_keys "ListApiKeys" ListApiKeysRequest,
        update_api_key "UpdateApiKey" UpdateApiKeyRequest, delete_api_key "DeleteApiKey" DeleteApiKeyRequest,
        attach_target "AttachTarget" AttachTargetRequest, detach_target "DetachTarget" DetachTargetRequest, get_usage "GetUsage" GetUsageRequest, grant "Grant" GrantRequest, apply "Apply" ApplyRequest);
    macro_rules! streamed {
        ($($method:ident $name:literal $request:ident),+) => {
            $({
                let name = concat!("tollgate.v1.DecisionService/", $name);
                let answers = decisions.$method(tokio_stream::iter([asked::<pb::$request>(&today[name])])).await.unwrap();
                came(name, &answers.into_inner().message().await.unwrap().unwrap());
                called.insert(name.to_owned());
            })+
        };
    }
    streamed!(check_stream "CheckStream" CheckBatch, report_stream "ReportStream" ReportRequest);
    let all: BTreeSet<String> = methods(&v0()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(called, all);
}
