//! linux.resources.devices as JSON: compiling never panics, and every program that comes out is one that the verifier would
//! take and that answers as the plain reading of the list does.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| stockade_fuzz::devices(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    stockade_fuzz::mutate(data, 0, size, max_size, seed)
});
