//! The records of a container, torn, stale or hostile: reading them never panics, each is whole or not there, and an exec
//! is never less confined than they say.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::path::PathBuf;
use std::sync::LazyLock;

fuzz_target!(|data: &[u8]| {
    // Of this process alone; the driver removes what is left.
    static ROOT: LazyLock<PathBuf> =
        LazyLock::new(|| PathBuf::from(format!("/dev/shm/stockade-fuzz-{}", std::process::id())));
    let _ = stockade_fuzz::records(&ROOT, data);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    stockade_fuzz::mutate_one(data, size, max_size, seed)
});
