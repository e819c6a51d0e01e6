//! The options of a mount, one a line: each is understood as mount(8) has it, or is the file system's, or is refused.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::sync::LazyLock;

const OTHERS: [&str; 9] = ["", "r", "=", "size=64k", "mode=0755", "remount", "sync=", "mand=x", "RO"];

fuzz_target!(|data: &[u8]| stockade_fuzz::options(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    static WORDS: LazyLock<Vec<String>> =
        LazyLock::new(|| [stockade::plan::options::all(), OTHERS.map(String::from).to_vec()].concat());
    let words: Vec<&str> = WORDS.iter().map(String::as_str).collect();
    stockade_fuzz::mutate_records(data, size, max_size, seed, b'\n', &words)
});
