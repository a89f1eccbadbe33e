//! Properties of the codec. `PROPTEST_CASES=100000 cargo test --release wire::` is the fuzz target.

// `messages.rs` is also compiled into `tests/decode_fuzz.rs`, so it names this crate from outside.
extern crate self as ringkv;

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod delta;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod properties;
