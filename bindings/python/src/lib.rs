//! The native half of ringkv's Python package: bytes in, bytes out, and nothing that Python can
//! do as well. What users see (the mapping, the codecs, the exceptions, the reports) is in
//! `python/ringkv/`; this module is private to it.
//!
//! Three rules hold everywhere:
//! - A call that may block runs detached from the interpreter, so that other threads of the
//!   program go on, and asks every 50 ms whether a signal such as Ctrl-C has arrived ([`call`]).
//! - Values are copied exactly once on their way in (by the store) and never borrowed beyond the
//!   call. Only `bytes` cross the border: they cannot change while the interpreter is detached.
//! - A handle that a fork has carried into another process is dead there ([`process`]): the
//!   node's threads exist in the parent only, so even dropping it could wait forever.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod call;
mod events;
mod logs;
mod options;
mod process;
mod report;
mod ring;
mod scan;

/// See the documentation of the crate.
#[pyo3::pymodule]
mod _ringkv {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::events::Events;
    #[pymodule_export]
    use crate::logs::{close_log, fetch_log, open_log};
    #[pymodule_export]
    use crate::process::{after_fork_in_child, after_fork_in_parent, before_fork};
    #[pymodule_export]
    use crate::ring::Ring;
    #[pymodule_export]
    use crate::scan::Scan;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    /// Runs the command line; the exit status. Signals belong to it meanwhile.
    #[pyfunction]
    fn command_line(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> i32 {
        py.detach(|| ringkv::cli::main(arguments))
    }

    /// Every status: number, name, text, whether a retry may help, whether a write that ended
    /// this way may have taken effect.
    #[pyfunction]
    fn statuses() -> Vec<(i32, String, &'static str, bool, bool)> {
        let all = ringkv::Status::ALL.into_iter();
        all.map(|s| (s.code(), format!("{s:?}"), s.text(), s.is_retryable(), s.maybe_applied()))
            .collect()
    }
}
