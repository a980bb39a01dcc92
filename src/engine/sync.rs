//! The locks, maps and atomic numbers of the engine, all from one place: with the feature
//! `schedules` the tests put others under the very same code, and a scheduler decides at each of
//! them which thread goes on. What is built without the tests has the real ones, always.

#[cfg(all(test, feature = "schedules"))]
mod controlled;
#[cfg(all(test, feature = "schedules"))]
pub(crate) mod schedules;

#[cfg(all(test, feature = "schedules"))]
pub(crate) use self::controlled::{DashMap, Mutex, MutexGuard, Ref};
#[cfg(all(test, feature = "schedules"))]
pub(crate) use shuttle::sync::atomic;

#[cfg(not(all(test, feature = "schedules")))]
pub(crate) use dashmap::{DashMap, mapref::one::Ref};
#[cfg(not(all(test, feature = "schedules")))]
pub(crate) use parking_lot::{Mutex, MutexGuard};
#[cfg(not(all(test, feature = "schedules")))]
pub(crate) use std::sync::atomic;
