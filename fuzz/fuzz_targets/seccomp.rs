//! linux.seccomp as JSON: compiling never panics, and every program that comes out is one that the kernel would take
//! and that answers as the plain reading of the profile does.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use oci_spec::runtime::LinuxSeccomp;

fuzz_target!(|data: &[u8]| {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(data) else { return };
    match stockade::seccomp::compile(&profile) {
        Ok(program) => stockade_fuzz::compiled(&profile, &program.insns),
        Err(e) => stockade_fuzz::one_line(&e),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    stockade_fuzz::mutate(data, 0, size, max_size, seed)
});
