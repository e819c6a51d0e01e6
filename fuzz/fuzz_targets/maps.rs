//! A host's subuid and subgid, and a config with id maps: the blocks, and the maps that come out, are nobody else's and
//! such as the kernel takes; who the container is outside is answered as the maps read.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| stockade_fuzz::maps(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    stockade_fuzz::mutate(data, 0, size, max_size, seed)
});
