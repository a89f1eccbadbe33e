//! The C surface: casts, checks, the panic guard, and nothing else.
//!
//! Every function here is five to fifteen lines: check the arguments, convert them, call the
//! safe Rust API of `node`, convert the result. `include/ringkv.h` is generated from this
//! directory by cbindgen (`make header`), so the comments on the items below are the manual
//! that a C programmer reads; they are written for that reader.
//!
//! What keeps a C program alive whatever it passes in:
//! - a handle is a number in the shape of a pointer (`table`), never an address: a stale,
//!   foreign or NULL handle is recognised and answered with a status;
//! - every call runs inside `guard`: a panic becomes `RINGKV_PANIC` and poisons its handle;
//! - options are copied by their `size` field (`convert`), so that older and newer callers work;
//! - no Rust enum is ever taken from C: an `int32_t` comes in and is looked up.
//!
//! What it cannot check: that a pointer with a length points at that many bytes, and that what
//! we handed out (`ringkv_buf`, reports) is freed once.

#![allow(unsafe_code, non_camel_case_types)]
// The header carries the contract of each function; a `# Safety` section would be printed there
// too.
#![allow(clippy::missing_safety_doc)]

mod convert;
mod guard;
mod table;

// The order below is the order of the header.
pub mod status;
pub mod types;

pub mod life;

pub mod data;
pub mod many;
pub mod scan;

pub mod change;
pub mod events;
pub mod plan;
pub mod report;

pub mod log;
pub mod support;
