//! The allocator, in small pages.
//!
//! mimalloc asks Linux for huge pages of 2 MiB, and gets one where a few KiB of it are used. That
//! took 19 MB more at rest, 63 MB more with a million keys, and a sixth more with 300,000
//! customers. Huge pages are found sooner where there are many: in turns, each of these decided in
//! 4 to 8 % less CPU with them, within a spread of 14 % and more. See `benches/results/memory.md`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has Linux give this process small pages. Call it before there are threads and much in memory:
/// what lies in a huge page by then stays there.
pub(crate) fn use_small_pages() {
    #[cfg(target_os = "linux")]
    {
        // Where the kernel does not know of it, it gives what it likes.
        let _ = rustix::thread::disable_transparent_huge_pages(true);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn no_huge_page_is_given_any_more() {
        use_small_pages();
        assert_eq!(rustix::thread::transparent_huge_pages_are_disabled(), Ok(true));
        // Aligned, and far more than a huge page.
        let many = vec![1_u8; 64 << 20];
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("AnonHugePages:")).unwrap();
        let huge_kb: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(huge_kb < 16 << 10, "{huge_kb} KB of {} bytes lie in huge pages", many.len());
    }
}
