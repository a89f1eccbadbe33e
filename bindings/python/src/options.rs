//! From keyword arguments to the engine's options.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use ringkv::ring::{HashKind, PlacementKind};
use ringkv::{ChangeOptions, Lookup, NodeConfig, ReadOptions, Start, WriteOptions};

use crate::call::{argument, bad_argument};

/// Longer than anybody waits, and short enough to be added to any clock.
const SECONDS_MAX: f64 = 1e9;

/// The configuration of a node from the keyword arguments of `Node.start`; what is not named
/// keeps the engine's default.
pub(crate) fn node_config(options: &Bound<'_, PyDict>) -> PyResult<NodeConfig> {
    let mut config = NodeConfig::default();
    let mut standby = false;
    let mut join: Option<Vec<String>> = None;
    for (name, value) in options {
        let name: String = name.extract()?;
        let v = &value;
        match name.as_str() {
            "name" => config.name = Some(argument(&name, v)?),
            "listen" => config.listen = argument(&name, v)?,
            "also_listen" => config.also_listen = argument(&name, v)?,
            "advertise" => config.advertise = Some(argument(&name, v)?),
            "zone" => config.zone = argument(&name, v)?,
            "weight" => config.weight = argument(&name, v)?,
            "position" => config.position = Some(argument(&name, v)?),
            "join" => join = Some(argument(&name, v)?),
            "standby" => standby = argument(&name, v)?,
            "partitions" => config.params.partitions = argument(&name, v)?,
            "hash" => config.params.hash = hash_kind(v)?,
            "seed" => config.params.seed = argument(&name, v)?,
            "placement" => config.params.placement = placement_kind(v)?,
            "copies" => config.params.copies = argument(&name, v)?,
            "min_insync" => config.params.min_insync = argument(&name, v)?,
            "value_bytes_max" => config.params.value_bytes_max = argument(&name, v)?,
            "leases" => config.params.leases = argument(&name, v)?,
            "workers" => config.workers = argument(&name, v)?,
            "memory_bytes_max" => config.memory_bytes_max = argument(&name, v)?,
            "accept_public" => config.accept_public = argument(&name, v)?,
            "start_timeout" => config.start_timeout = seconds(v, &name)?,
            "timeout" => config.timeout = seconds(v, &name)?,
            _ => return Err(PyTypeError::new_err(format!("unknown option of a node: {name}"))),
        }
    }
    config.start = match (join, standby) {
        (Some(_), true) => {
            let message = "join and standby exclude each other: a standby waits to be added";
            return Err(bad_argument(options.py(), message));
        }
        (Some(addresses), false) => Start::Join(addresses),
        (None, true) => Start::Standby,
        (None, false) => Start::Create,
    };
    Ok(config)
}

/// The options of a read.
pub(crate) fn read(
    timeout: Option<&Bound<'_, PyAny>>,
    lookup: Option<&Bound<'_, PyAny>>,
) -> PyResult<ReadOptions> {
    Ok(ReadOptions { timeout: deadline(timeout)?, lookup: lookup_mode(lookup)? })
}

/// The options of a write.
pub(crate) fn write(
    timeout: Option<&Bound<'_, PyAny>>,
    ttl: Option<&Bound<'_, PyAny>>,
    if_absent: bool,
) -> PyResult<WriteOptions> {
    let ttl = ttl.map(|value| time_to_live(value)).transpose()?;
    Ok(WriteOptions { timeout: deadline(timeout)?, ttl, if_absent })
}

/// How long a change of the ring may take.
pub(crate) fn change_timeout(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
    Ok(deadline(timeout)?.unwrap_or(ChangeOptions::default().timeout))
}

/// A deadline in seconds, if there is one.
pub(crate) fn deadline(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    timeout.map(|value| seconds(value, "timeout")).transpose()
}

/// How a key is looked up.
pub(crate) fn lookup_mode(lookup: Option<&Bound<'_, PyAny>>) -> PyResult<Lookup> {
    let Some(value) = lookup else { return Ok(Lookup::Direct) };
    match argument::<String>("lookup", value)?.as_str() {
        "direct" => Ok(Lookup::Direct),
        "iterative" => Ok(Lookup::Iterative),
        "recursive" => Ok(Lookup::Recursive),
        "local" => Ok(Lookup::Local),
        other => Err(unknown(value, "lookup", other, "direct, iterative, recursive, local")),
    }
}

fn hash_kind(value: &Bound<'_, PyAny>) -> PyResult<HashKind> {
    match argument::<String>("hash", value)?.as_str() {
        "murmur3" => Ok(HashKind::Murmur3),
        "crc16" => Ok(HashKind::Crc16),
        "integer" => Ok(HashKind::Integer),
        other => Err(unknown(value, "hash", other, "murmur3, crc16, integer")),
    }
}

fn placement_kind(value: &Bound<'_, PyAny>) -> PyResult<PlacementKind> {
    match argument::<String>("placement", value)?.as_str() {
        "balanced" => Ok(PlacementKind::Balanced),
        "successor" => Ok(PlacementKind::Successor),
        other => Err(unknown(value, "placement", other, "balanced, successor")),
    }
}

fn unknown(value: &Bound<'_, PyAny>, name: &str, got: &str, known: &str) -> PyErr {
    bad_argument(value.py(), format!("{name}: '{got}' is not one of {known}"))
}

/// A duration in seconds; whatever is beyond all patience counts as `SECONDS_MAX`.
fn seconds(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Duration> {
    let number: f64 = argument(name, value)?;
    if number.is_nan() || number < 0.0 {
        return Err(bad_argument(value.py(), format!("{name}: {number} is not a duration")));
    }
    Ok(Duration::from_secs_f64(number.min(SECONDS_MAX)))
}

/// A time to live: positive, in whole milliseconds, rounded up so that it never becomes zero.
fn time_to_live(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let ttl = seconds(value, "ttl")?;
    if ttl.is_zero() {
        return Err(bad_argument(value.py(), "ttl: must be more than 0 seconds"));
    }
    Ok(Duration::from_millis(ttl.as_nanos().div_ceil(1_000_000) as u64))
}
