//! Protobuf and unary calls by hand, for the busiest calls. What other calls say goes through prost
//! and tonic whole.
//!
//! # What the protobuf by hand gains
//!
//! `cargo bench --bench codec`, one run on 2026-11-30, beside the server's CPU for a whole call
//! (`benches/results/rpc.md`). A request is read where it lies, and an answer is written from the
//! decision into the frame that leaves; prost needs a message in between.
//!
//! | what is read and written | by hand | by prost | less, of a whole call |
//! | --- | --- | --- | --- |
//! | `Check`, a rate limit | 0.36 µs | 0.69 µs | 0.33 of 5.7 µs, 6 % |
//! | `Check`, a rate limit, two quotas, a receipt | 0.68 µs | 1.30 µs | 0.62 of 7.4 µs, 8 % |
//! | a batch of 64 checks with receipts, each check | 0.10 µs | 0.11 µs | 0.01 of 0.9 µs, 1 % |
//!
//! So it is worth its 500 lines for `Check`. For batches alone it would not be: they are here
//! because a batch is made of the same fields. `ShouldRateLimit` is read and written by prost, into
//! messages of our own (`grpc::wire`). Property tests beside each part hold it to what prost reads
//! and writes.

pub mod answer;
pub mod batch;
pub(super) mod frame;
pub(super) mod protobuf;
pub mod request;
pub(super) mod unary;
