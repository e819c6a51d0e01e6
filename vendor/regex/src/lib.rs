//! The crate `regex` for oci-spec alone, which checks process.execCPUAffinity with one pattern: regex-lite, by the same
//! authors, understands it and is a tenth of the size. Named in `[patch.crates-io]`; an install from crates.io works
//! with the real one.

pub use regex_lite::*;
