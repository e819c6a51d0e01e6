//! A user as typed, and the passwd and group of an image: found as the plain reading finds it, or refused in one line.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

const WORDS: [&str; 16] = [
    "",
    "0",
    "00",
    "+0",
    "5",
    "ann",
    "root",
    "staff",
    ":",
    ",ann",
    "2147483648",
    "4294967295",
    "\r",
    "ann:x:5:5::/home/ann:/bin/sh",
    "staff:x:50:ann,bob",
    "x\0y",
];

fuzz_target!(|data: &[u8]| stockade_fuzz::accounts(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Between the three texts, the lines or the fields.
    let between = [0xff, b'\n', b'\n', b':', b':', b','][seed as usize % 6];
    stockade_fuzz::mutate_records(data, size, max_size, seed, between, &WORDS)
});
