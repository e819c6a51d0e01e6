//! config.json as bytes: parsing never panics, and what it lets through is as the rest of the house takes it for granted.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| {
    match stockade::bundle::parse(data) {
        Ok((spec, unknown)) => stockade_fuzz::parsed(&spec, &unknown),
        Err(e) => stockade_fuzz::one_line(&e),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    stockade_fuzz::mutate(data, 0, size, max_size, seed)
});
