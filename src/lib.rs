//! ringkv: a distributed hash table that lives inside your program.

pub mod base;
pub mod ring;
