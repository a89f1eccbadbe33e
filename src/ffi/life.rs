//! Starting, connecting, closing, and which version this is.

use std::ffi::c_char;
use std::ptr::without_provenance_mut;

use super::convert::{comma_list, copy_text, options, required_text, text, timeout};
use super::guard::{RINGS, guard, invalid, quietly, required, take_handle, watch_forks, with_ring};
use super::status::ringkv_status;
use super::types::*;
use crate::base::Result;
use crate::node::{ClientConfig, NodeConfig, Ring, Start};
use crate::ring::{HashKind, Params, PlacementKind};

/// Starts a node in this process. Unless the options say otherwise it listens on a free port of
/// 127.0.0.1 and creates a ring of which it is the only member.
///
/// `options` and the texts in it are borrowed for the call; NULL stands for the defaults. On
/// success `*out_node` is yours: end it with `ringkv_close`. Any thread. Blocks until the node
/// listens and, if it joins a ring, until the ring has admitted it.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED`, `RINGKV_ADDRESS_IN_USE`,
/// `RINGKV_UNKNOWN_HOST`, `RINGKV_REFUSED`, `RINGKV_WRONG_RING`, `RINGKV_CONNECT`,
/// `RINGKV_TIMEOUT`, `RINGKV_IO`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_node_start(
    options: *const ringkv_node_options,
    out_node: *mut *mut ringkv_t,
) -> ringkv_status {
    guard(|| {
        required(out_node, "out_node")?;
        // SAFETY: NULL or a struct of the size it names, by the header's contract.
        let config = unsafe { node_config(&self::options(options)?) }?;
        // SAFETY: `out_node` was checked above.
        unsafe { hand_out(|| Ring::start(config), out_node) }
    })
}

/// Connects to a ring whose nodes run in other processes (or in this one). `addresses` names
/// one member or several, with commas between them; the first that answers is enough, the
/// others are learnt from it.
///
/// `addresses` and `options` are borrowed for the call; NULL options stand for the defaults. On
/// success `*out_client` is yours: end it with `ringkv_close`. Any thread. Blocks up to the
/// timeout.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED`, `RINGKV_UNKNOWN_HOST`, `RINGKV_CONNECT`,
/// `RINGKV_PROTOCOL`, `RINGKV_TIMEOUT`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_connect(
    addresses: *const c_char,
    options: *const ringkv_connect_options,
    out_client: *mut *mut ringkv_t,
) -> ringkv_status {
    guard(|| {
        required(out_client, "out_client")?;
        // SAFETY: a NUL-terminated text, and NULL or a struct of the size it names.
        let (addresses, options) =
            unsafe { (required_text(addresses, "addresses")?, self::options(options)?) };
        let mut config = ClientConfig::default();
        config.timeout = timeout(options.timeout_ms).unwrap_or(config.timeout);
        // SAFETY: `out_client` was checked above.
        unsafe { hand_out(|| Ring::connect(addresses, config), out_client) }
    })
}

/// Stops the node or closes the connections, and sets `*handle` to NULL. A node that stops
/// without being dropped first takes its copies with it.
///
/// Other threads may be inside calls on the handle: those end with `RINGKV_CLOSED`, and so does
/// every later call with a copy of it, for ever. NULL, a pointer to NULL, and a handle that is
/// closed already are fine. In a forked child it sets the pointer to NULL and does nothing
/// else. Any thread. Blocks until the node's threads have ended. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_close(handle: *mut *mut ringkv_t) {
    quietly(|| {
        // SAFETY: NULL, or the caller vouches that it points at a handle.
        let closing = unsafe { take_handle(handle) };
        if let Ok(ring) = RINGS.remove(closing) {
            ::log::debug!("closing {}", ring.address());
            ring.close();
        }
    });
}

/// Writes the address that the node listens on, or the first address that the client was given,
/// and a NUL to `buf`, which has room for `cap` bytes; `RINGKV_ADDRESS_BYTES_MAX` is always
/// enough. `*out_len` becomes its length without the NUL, also with `RINGKV_BUFFER_TOO_SMALL`;
/// it may be NULL.
///
/// Any thread, side by side. Does not block. `RINGKV_INVALID_ARGUMENT`,
/// `RINGKV_BUFFER_TOO_SMALL`, `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_address(
    ring: *mut ringkv_t,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> ringkv_status {
    // SAFETY: the caller vouches for the room in `buf` and for `out_len`.
    with_ring(ring, |ring| unsafe { copy_text(&ring.address(), buf, cap, out_len) })
}

/// The version of the library that runs, such as "0.1.0". Any thread, never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ringkv_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The version of the library that runs as a number to compare with `RINGKV_VERSION_NUMBER`,
/// which is the version of the header. Any thread, never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ringkv_version_number() -> u32 {
    VERSION_NUMBER
}

/// The number of the binary interface of the library that runs: the one in its soname, and
/// `RINGKV_ABI_VERSION` of the header. Programs built for another number do not work with it.
/// Any thread, never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ringkv_abi_version() -> u32 {
    ABI_VERSION
}

/// The number in the soname, which `build.rs` sets.
const ABI_VERSION: u32 = number(env!("RINGKV_ABI_VERSION"));

const VERSION_NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
    | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
    | number(env!("CARGO_PKG_VERSION_PATCH"));

const fn number(decimal: &str) -> u32 {
    match u32::from_str_radix(decimal, 10) {
        Ok(number) => number,
        Err(_) => panic!("cargo and build.rs give decimal numbers"),
    }
}

/// Opens a ring and hands its handle to C. `out` is written only on success.
///
/// # Safety
///
/// `out` can be written.
unsafe fn hand_out(open: impl FnOnce() -> Result<Ring>, out: *mut *mut ringkv_t) -> Result<()> {
    watch_forks();
    let ring = open()?;
    ::log::debug!("opened {}", ring.address());
    match RINGS.insert(ring.clone()) {
        // SAFETY: the caller's contract.
        Ok(handle) => unsafe { out.write(without_provenance_mut(handle)) },
        Err(error) => {
            ring.close();
            return Err(error);
        }
    }
    Ok(())
}

/// # Safety
///
/// The texts are NULL or NUL-terminated.
unsafe fn node_config(o: &ringkv_node_options) -> Result<NodeConfig> {
    // SAFETY: the caller's contract, for each of the six.
    let [name, listen, also_listen, advertise, zone, join] = unsafe {
        [
            text(o.name, "name")?,
            text(o.listen, "listen")?,
            text(o.also_listen, "also_listen")?,
            text(o.advertise, "advertise")?,
            text(o.zone, "zone")?,
            text(o.join, "join")?,
        ]
    };
    let default = NodeConfig::default();
    Ok(NodeConfig {
        name: name.map(String::from),
        listen: listen.map_or(default.listen, String::from),
        also_listen: comma_list(also_listen),
        advertise: advertise.map(String::from),
        zone: zone.unwrap_or_default().into(),
        weight: weight(o)?,
        position: (o.flags & RINGKV_NODE_HAS_POSITION != 0).then_some(o.position),
        start: start(o, join)?,
        params: params(o)?,
        workers: if o.workers == 0 { default.workers } else { o.workers as usize },
        memory_bytes_max: o.memory_bytes_max,
        accept_public: o.flags & RINGKV_NODE_ACCEPT_PUBLIC != 0,
        start_timeout: timeout(o.start_timeout_ms).unwrap_or(default.start_timeout),
        timeout: timeout(o.timeout_ms).unwrap_or(default.timeout),
    })
}

pub(super) fn weight(o: &ringkv_node_options) -> Result<u32> {
    match (o.flags & RINGKV_NODE_ROUTER != 0, o.weight) {
        (true, 0) => Ok(0),
        (true, _) => Err(invalid("a router has no weight: leave it 0 with RINGKV_NODE_ROUTER")),
        (false, 0) => Ok(1),
        (false, weight) => Ok(weight),
    }
}

fn start(o: &ringkv_node_options, join: Option<&str>) -> Result<Start> {
    let join = join.map(|list| comma_list(Some(list)));
    match (o.flags & RINGKV_NODE_STANDBY != 0, join) {
        (true, Some(_)) => Err(invalid("a node either joins or stands by: give one of the two")),
        (true, None) => Ok(Start::Standby),
        (false, None) => Ok(Start::Create),
        (false, Some(seeds)) if seeds.is_empty() => Err(invalid("join names no address")),
        (false, Some(seeds)) => Ok(Start::Join(seeds)),
    }
}

fn params(o: &ringkv_node_options) -> Result<Params> {
    let default = Params::default();
    let hash = match o.hash {
        RINGKV_HASH_MURMUR3 => HashKind::Murmur3,
        RINGKV_HASH_CRC16 => HashKind::Crc16,
        RINGKV_HASH_INTEGER => HashKind::Integer,
        other => return Err(invalid(format!("there is no hash number {other}"))),
    };
    let placement = match o.placement {
        RINGKV_PLACEMENT_BALANCED => PlacementKind::Balanced,
        RINGKV_PLACEMENT_SUCCESSOR => PlacementKind::Successor,
        other => return Err(invalid(format!("there is no placement number {other}"))),
    };
    let small = |value: u32, name: &str| {
        u8::try_from(value).map_err(|_| invalid(format!("{name} = {value} is too large")))
    };
    let copies = small(if o.copies == 0 { default.copies.into() } else { o.copies }, "copies")?;
    let min_insync = match o.min_insync {
        0 => default.min_insync.min(copies),
        given => small(given, "min_insync")?,
    };
    let partitions = match (o.partitions, hash) {
        (0, HashKind::Crc16) => 16_384,
        (0, _) => default.partitions,
        (given, _) => given,
    };
    let value_bytes_max =
        if o.value_bytes_max == 0 { default.value_bytes_max } else { o.value_bytes_max };
    let seed = o.hash_seed;
    let leases = o.flags & RINGKV_NODE_NO_LEASES == 0;
    Ok(Params { partitions, hash, seed, placement, copies, min_insync, value_bytes_max, leases })
}
