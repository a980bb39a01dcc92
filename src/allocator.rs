//! The allocator, and when it gives memory back.
//!
//! What a caller takes lies anywhere in the memory of a million of them, so what a read costs there
//! is mostly finding the page: a huge page of 2 MiB is found far sooner than one of 4 KiB. Linux
//! gives them to mimalloc, which then by itself hands pieces of them back as soon as a second
//! passes without need of them; a huge page of which a piece is gone is 512 small ones from then
//! on.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_get, mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One of mimalloc's options, which the crate has no name for.
struct Choice {
    /// Where it stands in `mi_option_t` of mimalloc 3.
    option: mi_option_t,
    /// What it is by default. Another number there is another option, of another version, and is
    /// left alone.
    default: c_long,
    chosen: c_long,
}

const CHOICES: [Choice; 2] = [
    // `purge_delay`: milliseconds until what is free goes back. What comes and goes each second is
    // not given back in between.
    Choice { option: 15, default: 1_000, chosen: 10_000 },
    // `allow_thp`: with 2, what goes back are whole huge pages.
    Choice { option: 43, default: 1, chosen: 2 },
];

/// Has huge pages stay whole. What the environment says (`MIMALLOC_PURGE_DELAY`,
/// `MIMALLOC_ALLOW_THP`) comes first.
pub(crate) fn keep_huge_pages() {
    for Choice { option, default, chosen } in CHOICES {
        // SAFETY: both take any number and know those that are no option; they read and write a
        // number of mimalloc's own, and no thread is started yet.
        #[allow(unsafe_code)]
        unsafe {
            if mi_option_get(option) == default {
                mi_option_set_default(option, chosen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_where_they_are_looked_for() {
        keep_huge_pages();
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let now = CHOICES.map(|choice| unsafe { mi_option_get(choice.option) });
        assert_eq!(now, [10_000, 2], "see mi_option_t of the mimalloc that is built in");
    }
}
