//! The one way from Python into the engine, and the way back for its errors.

use std::cell::RefCell;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use ringkv::{Error, Status};

thread_local! {
    /// The exception that ended the call which is under way on this thread: raised by a signal
    /// handler, or by a progress callback.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Runs `operation` detached from the interpreter. If a Python signal handler raises meanwhile
/// (as the one of Ctrl-C does), the operation ends and the handler's exception comes out of here.
pub(crate) fn blocking<T: Send>(
    py: Python<'_>,
    operation: impl FnOnce() -> ringkv::Result<T> + Send,
) -> PyResult<T> {
    let result = py.detach(|| ringkv::with_interrupt(signal_raised, operation));
    match RAISED.take() {
        Some(raised) => Err(raised),
        None => result.map_err(|error| exception(py, &error)),
    }
}

/// Ends the call that is under way on this thread with `error`, as soon as it looks.
pub(crate) fn raise_from_callback(error: PyErr) {
    RAISED.set(Some(error));
}

/// Lets pending signal handlers run; whether one raised. Python runs them on its main thread only,
/// elsewhere this does nothing.
fn signal_raised() -> bool {
    // No interpreter to attach to means that it shuts down: nobody waits for this call any more.
    let checked = Python::try_attach(|py| py.check_signals());
    match checked {
        Some(Ok(())) => false,
        Some(Err(raised)) => {
            raise_from_callback(raised);
            true
        }
        None => true,
    }
}

/// The Python exception for an error of the engine: an instance of a class in `ringkv.errors`.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    static FROM_STATUS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let status = error.status();
    let made = FROM_STATUS.import(py, "ringkv.errors", "from_status").and_then(|from_status| {
        let facts = (status.code(), error.message(), status.is_retryable(), status.maybe_applied());
        from_status.call1(facts)
    });
    match made {
        Ok(instance) => PyErr::from_value(instance),
        Err(failed) => failed,
    }
}

/// The exception for an argument that cannot be used.
pub(crate) fn bad_argument(py: Python<'_>, message: impl Into<String>) -> PyErr {
    exception(py, &Error::new(Status::InvalidArgument, message))
}

/// Reads the argument `name`; what is of the wrong type stays a `TypeError`, what is of the right
/// type but out of range becomes an invalid argument.
pub(crate) fn argument<'py, T>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    let py = value.py();
    value.extract().map_err(|error| {
        let error: PyErr = Into::<PyErr>::into(error);
        let out_of_range =
            error.is_instance_of::<PyOverflowError>(py) || error.is_instance_of::<PyValueError>(py);
        match out_of_range {
            true => bad_argument(py, format!("{name}: {}", error.value(py))),
            false => pyo3::exceptions::PyTypeError::new_err(format!("{name}: {}", error.value(py))),
        }
    })
}
