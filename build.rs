//! Names the shared library after its binary interface.
//!
//! The soname carries the number of the interface, not the version of the crate, so that programs
//! find a newer library that still fits them. `-z nodelete` keeps the library in memory after a
//! `dlclose`: a Rust library has thread-locals with destructors, which must not be unloaded while
//! a thread of the host that once called us is alive.

/// The number of the binary interface. While the version is 0.y the number is y - 1.
const ABI_VERSION: &str = "0";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=RINGKV_ABI_VERSION={ABI_VERSION}");
    match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => {
            let name = format!("@rpath/libringkv.{ABI_VERSION}.dylib");
            println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,{name}");
        }
        _ => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libringkv.so.{ABI_VERSION}");
            println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
    }
}
