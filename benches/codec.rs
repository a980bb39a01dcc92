//! What reading and writing a check costs by hand (`grpc::fast`) and by prost: the same bytes, the
//! same decisions.
//!
//! `cargo bench --bench codec [-- --quick]`. Its figures stand at the top of `src/grpc/fast.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;
use prost::bytes::Bytes;
use tollgate::config::HeaderSets;
use tollgate::decide::time::SECOND_NS;
use tollgate::decide::verdict::{Decision, LimitKind, LimitScope, LimitStatus, Verdict};
use tollgate::grpc::fast::batch::Answers;
use tollgate::grpc::fast::request::Batch;
use tollgate::grpc::fast::{answer, request};
use tollgate::grpc::pb::tollgate as pb;
use tollgate::testkit::answer::message;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HEADERS: HeaderSets = HeaderSets { retry_after: true, ratelimit: true, x_ratelimit: false };
const BATCH: usize = 64;

fn check_request() -> pb::CheckRequest {
    pb::CheckRequest {
        api_key: Bytes::from_static(b"rate-of-a-bench-api-key-0000000007"),
        target: "load".to_owned(),
        method: Bytes::from_static(b"GET"),
        path: Bytes::from_static(b"/users/42"),
        ..pb::CheckRequest::default()
    }
}

fn batch_request() -> pb::CheckBatch {
    let check = check_request();
    pb::CheckBatch {
        id: 7,
        api_keys: vec![check.api_key; BATCH],
        targets: vec![check.target],
        methods: vec![check.method],
        paths: vec![check.path; BATCH],
        ..pb::CheckBatch::default()
    }
}

/// An admission with a rate limit, and with so many quotas and their receipt.
fn admission(quotas: usize) -> Decision<'static> {
    let rate = LimitStatus {
        name: "rate".into(),
        scope: LimitScope::Entitlement,
        kind: LimitKind::Rate,
        limit: 100,
        remaining: 93,
        reset_after_ns: SECOND_NS / 7,
        window_ns: SECOND_NS,
        violated: false,
        enforced: true,
        wait_ns: Some(0),
    };
    let quota = |name: &'static str| LimitStatus {
        name: name.into(),
        kind: LimitKind::Quota,
        limit: 1 << 40,
        remaining: 123_456_789,
        reset_after_ns: 43_210 * SECOND_NS,
        window_ns: 86_400 * SECOND_NS,
        ..rate.clone()
    };
    let names = ["daily", "monthly"].into_iter().take(quotas);
    Decision {
        verdict: Verdict::Allow { over_quota: false },
        plan: "gold".into(),
        entitlement: "everything".into(),
        subscriber: "rate-0000000007".into(),
        receipt: (quotas > 0).then(|| "r".repeat(108)),
        limits: std::iter::once(rate.clone()).chain(names.map(quota)).collect(),
        note: None,
    }
}

fn reading(criterion: &mut Criterion) {
    let one = Bytes::from(check_request().encode_to_vec());
    let mut group = criterion.benchmark_group("read a CheckRequest");
    group.bench_function("by hand", |bencher| {
        bencher.iter(|| request::check(black_box(&one)).unwrap().api_key.len());
    });
    group.bench_function("by prost", |bencher| {
        bencher.iter(|| pb::CheckRequest::decode(black_box(one.clone())).unwrap().api_key.len());
    });
    group.finish();
}

fn writing(criterion: &mut Criterion) {
    for (what, quotas) in [("a rate limit", 0), ("a rate limit, two quotas, a receipt", 2)] {
        let decision = admission(quotas);
        let by_hand = answer::framed(&decision, &HEADERS);
        assert_eq!(
            by_hand.message(),
            message(&decision, &HEADERS).encode_to_vec(),
            "both write the same"
        );
        let mut group = criterion.benchmark_group(format!("write a CheckResponse: {what}"));
        group.bench_function("by hand", |bencher| {
            bencher.iter(|| answer::framed(black_box(&decision), &HEADERS));
        });
        group.bench_function("by prost", |bencher| {
            bencher.iter(|| message(black_box(&decision), &HEADERS).encode_to_vec());
        });
        group.finish();
    }
}

fn batches(criterion: &mut Criterion) {
    let all = Bytes::from(batch_request().encode_to_vec());
    let decision = admission(2);
    let mut group = criterion.benchmark_group("read 64 checks of a batch, write their receipts");
    group.bench_function("by hand", |bencher| {
        bencher.iter(|| {
            let batch = Batch::read(black_box(&all)).unwrap();
            let mut answers = Answers::of(BATCH);
            for place in 0..BATCH {
                black_box(batch.item(place));
                answers.set(place, &decision);
            }
            answers.pack(batch.id)
        });
    });
    group.bench_function("by prost", |bencher| {
        bencher.iter(|| {
            let batch = pb::CheckBatch::decode(black_box(all.clone())).unwrap();
            let mut answer =
                pb::CheckBatchResponse { id: batch.id, ..pb::CheckBatchResponse::default() };
            for api_key in &batch.api_keys {
                black_box(api_key);
                answer.verdicts.push(pb::Verdict::Allow.into());
                answer.receipts.push(decision.receipt.clone().unwrap_or_default());
            }
            answer.encode_to_vec()
        });
    });
    group.finish();
}

criterion_group!(benches, reading, writing, batches);
criterion_main!(benches);
