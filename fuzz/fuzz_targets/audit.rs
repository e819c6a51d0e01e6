//! config.json as JSON: auditing never panics, and what `--fix` makes of it is stable and fails less.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| stockade_fuzz::audited(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    stockade_fuzz::mutate(data, 0, size, max_size, seed)
});
