//! Memory that nobody uses.

/// Gives pages that were freed back to the kernel: the allocator keeps them for ever if something behind them is in use.
/// Takes up to a few milliseconds, in which other threads may wait for memory. Nothing where the allocator can't.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        #[allow(unsafe_code)]
        // SAFETY: it takes no pointer, locks what it looks at, and moves nothing that is in use.
        unsafe {
            nix::libc::malloc_trim(0);
        }
    }
}

/// Lets all threads allocate from so many arenas, of one to the count of cores: what one thread freed is used by the next one, for
/// some waiting. To be called before there are threads. Nothing where the allocator has no arenas.
pub fn share_memory(arenas: i32) {
    #[cfg(target_env = "gnu")]
    {
        #[allow(unsafe_code)]
        // SAFETY: it takes no pointer, and sets a number that is read when a thread first allocates.
        unsafe {
            nix::libc::mallopt(nix::libc::M_ARENA_MAX, arenas);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident_kb() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    #[test]
    fn pages_between_others_go_back() {
        let mut all: Vec<Vec<u8>> = (0..20_000).map(|_| vec![1; 4096]).collect();
        let last = all.pop();
        let before = resident_kb();
        drop(all);
        give_memory_back();
        assert!(resident_kb() + 40_000 < before, "{} of {before} kB are left", resident_kb());
        drop(last);
    }
}
