//! The first byte chooses a host and a policy, the rest is a config.json: planning never panics, and every plan that
//! comes out keeps the order and the promises that the executor and the user rely on.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| {
    let Some((choice, config)) = data.split_first() else { return };
    let Ok((spec, unknown)) = stockade::bundle::parse(config) else { return };
    stockade_fuzz::planned(*choice, spec, unknown);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    stockade_fuzz::mutate(data, 1, size, max_size, seed)
});
