//! The handle: a node in this process, or a client of a ring in others.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};
use ringkv::{ChangeOptions, ClientConfig, Progress, ReadOptions, ScanOptions, Status};

use crate::call::{blocking, exception, raise_from_callback};
use crate::events::Events;
use crate::options;
use crate::process::OfProcess;
use crate::report;
use crate::scan::Scan;

/// Operations of a batch that failed: their places in it, and why.
type Failures = Vec<(usize, Py<PyAny>)>;

/// A handle of a ring. Any thread may call it, and calls run side by side.
#[pyclass(frozen, module = "ringkv._ringkv")]
pub(crate) struct Ring(OfProcess<ringkv::Ring>);

#[pymethods]
impl Ring {
    /// Starts a node in this process.
    #[staticmethod]
    #[pyo3(signature = (**options))]
    fn start(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let config = match options {
            Some(options) => options::node_config(options)?,
            None => ringkv::NodeConfig::default(),
        };
        blocking(py, || ringkv::Ring::start(config)).map(|ring| Self(OfProcess::new(ring)))
    }

    /// Connects to a ring: `seeds` is one address or several with commas between them.
    #[staticmethod]
    #[pyo3(signature = (seeds, *, timeout=None))]
    fn connect(py: Python<'_>, seeds: &str, timeout: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let mut config = ClientConfig::default();
        if let Some(timeout) = options::deadline(timeout.as_ref())? {
            config.timeout = timeout;
        }
        let ring = blocking(py, || ringkv::Ring::connect(seeds, config))?;
        Ok(Self(OfProcess::new(ring)))
    }

    /// Stops the node or closes the connections. May be called again.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if !self.0.is_ours() {
            return Ok(()); // There is nothing of it in this process.
        }
        let ring = self.0.value(py)?;
        py.detach(|| ring.close());
        Ok(())
    }

    /// Where the node listens, or the first seed.
    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.0.value(py)?.address())
    }

    /// The value of `key`, or None.
    #[pyo3(signature = (key, timeout=None, lookup=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        timeout: Option<Bound<'py, PyAny>>,
        lookup: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let options = options::read(timeout.as_ref(), lookup.as_ref())?;
        let ring = self.0.value(py)?;
        let value = blocking(py, || ring.get(key, &options))?;
        Ok(value.map(|value| PyBytes::new(py, &value)))
    }

    /// Whether `key` is there; its value is not copied.
    fn contains(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        let ring = self.0.value(py)?;
        let found = blocking(py, || ring.get_with(key, &ReadOptions::default(), |_| ()))?;
        Ok(found.is_some())
    }

    /// Stores `value` under `key`. False only with `if_absent`, if the key was there.
    #[pyo3(signature = (key, value, timeout=None, ttl=None, if_absent=false))]
    fn put(
        &self,
        py: Python<'_>,
        key: &[u8],
        value: &[u8],
        timeout: Option<Bound<'_, PyAny>>,
        ttl: Option<Bound<'_, PyAny>>,
        if_absent: bool,
    ) -> PyResult<bool> {
        let options = options::write(timeout.as_ref(), ttl.as_ref(), if_absent)?;
        let ring = self.0.value(py)?;
        blocking(py, || is_stored(ring.put(key, value, &options)))
    }

    /// Removes `key`; whether it was there.
    #[pyo3(signature = (key, timeout=None))]
    fn delete(
        &self,
        py: Python<'_>,
        key: &[u8],
        timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let options = options::write(timeout.as_ref(), None, false)?;
        let ring = self.0.value(py)?;
        blocking(py, || ring.delete(key, &options))
    }

    /// Stores `value` if `key` has the expected one (None: if it is absent); whether it did.
    #[pyo3(signature = (key, expected, value, timeout=None, ttl=None))]
    fn cas(
        &self,
        py: Python<'_>,
        key: &[u8],
        expected: Option<&[u8]>,
        value: &[u8],
        timeout: Option<Bound<'_, PyAny>>,
        ttl: Option<Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let options = options::write(timeout.as_ref(), ttl.as_ref(), false)?;
        let ring = self.0.value(py)?;
        blocking(py, || ring.cas(key, expected, value, &options))
    }

    /// Adds to the number under `key`; the sum.
    #[pyo3(signature = (key, delta=1, timeout=None, ttl=None))]
    fn incr(
        &self,
        py: Python<'_>,
        key: &[u8],
        delta: i64,
        timeout: Option<Bound<'_, PyAny>>,
        ttl: Option<Bound<'_, PyAny>>,
    ) -> PyResult<i64> {
        let options = options::write(timeout.as_ref(), ttl.as_ref(), false)?;
        let ring = self.0.value(py)?;
        blocking(py, || ring.incr(key, delta, &options))
    }

    /// The values of `keys` (None for a missing one), and what failed.
    #[pyo3(signature = (keys, timeout=None, lookup=None))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        keys: Vec<PyBackedBytes>,
        timeout: Option<Bound<'py, PyAny>>,
        lookup: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyList>, Failures)> {
        let options = options::read(timeout.as_ref(), lookup.as_ref())?;
        let ring = self.0.value(py)?;
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let results = blocking(py, || ring.get_many(&keys, &options))?;
        let (values, failures) = split(py, results)?;
        let values = values
            .into_iter()
            .map(|value| value.flatten().map(|value| PyBytes::new(py, &value)))
            .collect::<Vec<_>>();
        Ok((PyList::new(py, values)?, failures))
    }

    /// Stores several pairs; how many were stored, and what failed.
    #[pyo3(signature = (pairs, timeout=None, ttl=None, if_absent=false))]
    fn put_many(
        &self,
        py: Python<'_>,
        pairs: Vec<(PyBackedBytes, PyBackedBytes)>,
        timeout: Option<Bound<'_, PyAny>>,
        ttl: Option<Bound<'_, PyAny>>,
        if_absent: bool,
    ) -> PyResult<(usize, Failures)> {
        let options = options::write(timeout.as_ref(), ttl.as_ref(), if_absent)?;
        let ring = self.0.value(py)?;
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(k, v)| (&**k, &**v)).collect();
        let results = blocking(py, || ring.put_many(&pairs, &options))?;
        let (stored, failures) = split(py, results.into_iter().map(is_stored).collect())?;
        Ok((count_true(&stored), failures))
    }

    /// Removes several keys; how many were there, and what failed.
    #[pyo3(signature = (keys, timeout=None))]
    fn delete_many(
        &self,
        py: Python<'_>,
        keys: Vec<PyBackedBytes>,
        timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<(usize, Failures)> {
        let options = options::write(timeout.as_ref(), None, false)?;
        let ring = self.0.value(py)?;
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let results = blocking(py, || ring.delete_many(&keys, &options))?;
        let (removed, failures) = split(py, results)?;
        Ok((count_true(&removed), failures))
    }

    /// Starts a walk over the keys that begin with `prefix`.
    #[pyo3(signature = (prefix, keys_only=false, timeout=None))]
    fn scan(
        &self,
        py: Python<'_>,
        prefix: &[u8],
        keys_only: bool,
        timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Scan> {
        let timeout = options::deadline(timeout.as_ref())?;
        let ring = self.0.value(py)?;
        let options = ScanOptions { timeout, prefix: prefix.to_vec(), keys_only };
        blocking(py, || ring.scan(options)).map(|walk| Scan::new(walk, keys_only))
    }

    /// Adds the standby node at `address`. `progress` is called with (copies done, total); if it
    /// returns False the waiting ends.
    #[pyo3(signature = (address, wait=true, timeout=None, progress=None))]
    fn add_node(
        &self,
        py: Python<'_>,
        address: &str,
        wait: bool,
        timeout: Option<Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let timeout = options::change_timeout(timeout.as_ref())?;
        let ring = self.0.value(py)?;
        blocking(py, || {
            let mut report = |now: &Progress| call_progress(progress.as_ref(), now);
            let on_progress = Some(&mut report as &mut ringkv::OnProgress<'_>);
            let options = ChangeOptions { timeout, wait, on_progress, ..Default::default() };
            ring.add_node(address, options)
        })
    }

    /// Drops the member of that name or address; the rest as with `add_node`. Returns how many
    /// partitions lost their last copy.
    #[pyo3(signature = (name_or_address, wait=true, timeout=None, progress=None, force=false))]
    fn drop_node(
        &self,
        py: Python<'_>,
        name_or_address: &str,
        wait: bool,
        timeout: Option<Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
        force: bool,
    ) -> PyResult<u32> {
        let timeout = options::change_timeout(timeout.as_ref())?;
        let ring = self.0.value(py)?;
        blocking(py, || {
            let mut report = |now: &Progress| call_progress(progress.as_ref(), now);
            let options = ChangeOptions { timeout, wait, force, on_progress: Some(&mut report) };
            ring.drop_node(name_or_address, options).map(|dropped| dropped.partitions_lost)
        })
    }

    /// Takes back a drop that is under way.
    #[pyo3(signature = (name_or_address, timeout=None))]
    fn abort_drop(
        &self,
        py: Python<'_>,
        name_or_address: &str,
        timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let timeout = options::change_timeout(timeout.as_ref())?;
        let ring = self.0.value(py)?;
        blocking(py, || ring.abort_drop(name_or_address, timeout))
    }

    /// Lets lost partitions start again, empty; how many.
    #[pyo3(signature = (timeout=None))]
    fn reset_lost(&self, py: Python<'_>, timeout: Option<Bound<'_, PyAny>>) -> PyResult<u32> {
        let timeout = options::change_timeout(timeout.as_ref())?;
        let ring = self.0.value(py)?;
        blocking(py, || ring.reset_lost(timeout))
    }

    /// What happens to the ring from now on.
    fn events(&self, py: Python<'_>) -> PyResult<Events> {
        let ring = self.0.value(py)?;
        blocking(py, || ring.events()).map(Events::new)
    }

    /// Waits until nothing moves and every partition has its copies.
    #[pyo3(signature = (timeout=None))]
    fn wait_settled(&self, py: Python<'_>, timeout: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let timeout = options::change_timeout(timeout.as_ref())?;
        let ring = self.0.value(py)?;
        blocking(py, || ring.wait_settled(timeout))
    }

    /// The members, what each holds, and what is moving.
    fn info(&self, py: Python<'_>) -> PyResult<report::RingInfo> {
        let ring = self.0.value(py)?;
        blocking(py, || ring.info()).map(Into::into)
    }

    /// Where `key` lives.
    #[pyo3(signature = (key, lookup=None))]
    fn locate(
        &self,
        py: Python<'_>,
        key: &[u8],
        lookup: Option<Bound<'_, PyAny>>,
    ) -> PyResult<report::Location> {
        let lookup = options::lookup_mode(lookup.as_ref())?;
        let ring = self.0.value(py)?;
        let options = ReadOptions { lookup, timeout: None };
        blocking(py, || ring.locate(key, &options)).map(Into::into)
    }

    /// Whether every partition can take a write now.
    fn health(&self, py: Python<'_>) -> PyResult<report::Health> {
        let ring = self.0.value(py)?;
        blocking(py, || ring.health()).map(Into::into)
    }

    /// What adding a node of that name, address and weight would move.
    fn plan_add(
        &self,
        py: Python<'_>,
        name: &str,
        address: &str,
        weight: u32,
    ) -> PyResult<report::Plan> {
        let ring = self.0.value(py)?;
        blocking(py, || ring.plan_add(name, address, weight)).map(Into::into)
    }

    /// What dropping the member of that name or address would move.
    fn plan_drop(&self, py: Python<'_>, name_or_address: &str) -> PyResult<report::Plan> {
        let ring = self.0.value(py)?;
        blocking(py, || ring.plan_drop(name_or_address)).map(Into::into)
    }
}

/// A refusal because the key is there is an answer, not an error.
fn is_stored(result: ringkv::Result<()>) -> ringkv::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.status() == Status::Exists => Ok(false),
        Err(error) => Err(error),
    }
}

/// What succeeded, in its place, and what failed.
fn split<T>(
    py: Python<'_>,
    results: Vec<ringkv::Result<T>>,
) -> PyResult<(Vec<Option<T>>, Failures)> {
    let mut failures = Vec::new();
    let mut values = Vec::with_capacity(results.len());
    for (place, result) in results.into_iter().enumerate() {
        values.push(match result {
            Ok(value) => Some(value),
            Err(error) => {
                failures.push((place, exception(py, &error).into_value(py).into_any()));
                None
            }
        });
    }
    Ok((values, failures))
}

fn count_true(results: &[Option<bool>]) -> usize {
    results.iter().filter(|result| **result == Some(true)).count()
}

/// Calls the user's function; whether to go on waiting.
fn call_progress(progress: Option<&Py<PyAny>>, now: &Progress) -> bool {
    let Some(progress) = progress else { return true };
    let called = Python::try_attach(|py| {
        let result = progress.call1(py, (now.copies_done, now.copies_total))?;
        Ok::<bool, PyErr>(!result.bind(py).is(pyo3::types::PyBool::new(py, false)))
    });
    match called {
        Some(Ok(go_on)) => go_on,
        Some(Err(raised)) => {
            raise_from_callback(raised);
            false
        }
        None => false,
    }
}
