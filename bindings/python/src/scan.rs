//! A walk over the ring.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::call::blocking;
use crate::process::OfProcess;

/// A walk over the ring, page by page.
#[pyclass(frozen, module = "ringkv._ringkv")]
pub(crate) struct Scan {
    walk: OfProcess<Mutex<ringkv::Scan>>,
    keys_only: bool,
}

impl Scan {
    pub(crate) fn new(walk: ringkv::Scan, keys_only: bool) -> Self {
        Self { walk: OfProcess::new(Mutex::new(walk)), keys_only }
    }
}

#[pymethods]
impl Scan {
    /// The next page, a list of keys or of (key, value), never empty; None at the end.
    fn next_page<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let walk = self.walk.value(py)?;
        let page = blocking(py, || {
            // A panic of another thread in here left the walk where it was.
            walk.lock().unwrap_or_else(PoisonError::into_inner).next_page()
        })?;
        let Some(page) = page else { return Ok(None) };
        let list = match self.keys_only {
            true => PyList::new(py, page.iter().map(|(key, _)| PyBytes::new(py, key)))?,
            false => PyList::new(
                py,
                page.iter().map(|(key, value)| (PyBytes::new(py, key), PyBytes::new(py, value))),
            )?,
        };
        Ok(Some(list))
    }
}
