//! What happens to a ring.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::call::blocking;
use crate::options;
use crate::process::OfProcess;
use crate::report;

/// Waits no longer than this for anything; asked again, it waits on.
const FOREVER: std::time::Duration = std::time::Duration::from_secs(3600);

/// The events of a ring from the moment on at which this was made.
#[pyclass(frozen, module = "ringkv._ringkv")]
pub(crate) struct Events(OfProcess<Mutex<ringkv::Events>>);

impl Events {
    pub(crate) fn new(events: ringkv::Events) -> Self {
        Self(OfProcess::new(Mutex::new(events)))
    }
}

#[pymethods]
impl Events {
    /// The next event; None if nothing happens for that long.
    #[pyo3(signature = (timeout=None))]
    fn next(
        &self,
        py: Python<'_>,
        timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<report::Event>> {
        let timeout = options::deadline(timeout.as_ref())?;
        let events = self.0.value(py)?;
        let event = blocking(py, || {
            // A panic of another thread in here left the events as they were.
            let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let event = events.next(timeout.unwrap_or(FOREVER))?;
                if event.is_some() || timeout.is_some() {
                    return Ok(event);
                }
            }
        })?;
        Ok(event.map(Into::into))
    }
}
