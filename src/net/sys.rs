//! The calls to the operating system that neither std, mio nor socket2 offer safely.
//!
//! The only file of the network floor with `unsafe`. Everything here is a thin wrapper: a check,
//! the call, the translation of its result. No policy.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::{Error, Nanos, Result, Status};

/// Longest thread name that the kernel shows, in bytes.
pub const THREAD_NAME_BYTES_MAX: usize = 15;

/// Flags of every `send`. We live in other people's programs, where SIGPIPE may have its deadly
/// default action, so a broken connection must be an error and never a signal.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
/// Elsewhere the same is a property of the socket, which socket2 sets when it creates one.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) const SEND_FLAGS: i32 = 0;

#[cfg(any(target_os = "linux", target_os = "android"))]
const LEASE_CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
/// On macOS `CLOCK_MONOTONIC` counts suspend, as `CLOCK_BOOTTIME` does on Linux.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const LEASE_CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Now, on the clock of leases and timers: counts suspend, never runs backwards.
pub fn boottime() -> Nanos {
    let time = read_clock(LEASE_CLOCK);
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Now, on the wall clock, in milliseconds since 1970. For expiry times that people chose; it may
/// jump.
pub fn unix_millis() -> u64 {
    let time = read_clock(libc::CLOCK_REALTIME);
    // A clock before 1970 is a broken clock; zero is as good as any answer.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// The number of this process. Handles remember it to notice that they were taken over a fork.
pub fn process_id() -> u32 {
    std::process::id()
}

/// 64 random bits from the operating system.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// 128 random bits from the operating system.
pub fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    u128::from_ne_bytes(bytes)
}

/// Blocks every signal for the calling thread, so that the host program's handlers never run on
/// it. The mask is inherited by the threads that it starts.
pub fn block_all_signals() {
    let _ = replace_signal_mask(None);
}

/// Starts a thread with a name (cut to 15 bytes) on which every signal is blocked from its first
/// instruction: the mask is set here, inherited, and then given back to the calling thread.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let mut end = name.len().min(THREAD_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let name: String = name[..end].chars().filter(|c| *c != '\0').collect();
    let previous = replace_signal_mask(None);
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(body);
    let _ = replace_signal_mask(Some(&previous));
    spawned.map_err(|error| Error::new(Status::Io, format!("cannot start thread {name}: {error}")))
}

/// What to wait for on one socket, and what came.
pub(super) struct Interest<'a> {
    fd: BorrowedFd<'a>,
    read: bool,
    write: bool,
    /// Set by [`wait_ready`]: there are bytes, an end or an error to read.
    pub readable: bool,
    /// Set by [`wait_ready`]: it takes bytes, or it is broken.
    pub writable: bool,
}

impl<'a> Interest<'a> {
    /// To wait until there is something to read, or until bytes can be sent.
    pub fn new(fd: BorrowedFd<'a>, read: bool, write: bool) -> Self {
        Self { fd, read, write, readable: false, writable: false }
    }
}

/// Waits until one of the sockets is ready, for `wait_max` at most (rounded up to milliseconds).
/// Returns early, with nothing ready, when a signal handler ran.
pub(super) fn wait_ready(interests: &mut [Interest<'_>], wait_max: Duration) -> io::Result<usize> {
    let mut entries: Vec<libc::pollfd> = interests
        .iter()
        .map(|interest| {
            let read = if interest.read { libc::POLLIN } else { 0 };
            let write = if interest.write { libc::POLLOUT } else { 0 };
            libc::pollfd { fd: interest.fd.as_raw_fd(), events: read | write, revents: 0 }
        })
        .collect();
    let wait_ms = wait_max.as_nanos().div_ceil(1_000_000);
    let wait_ms = i32::try_from(wait_ms).unwrap_or(i32::MAX);
    // SAFETY: `entries` is a valid array of `entries.len()` pollfd structures for the whole call,
    // and the borrowed descriptors stay open because `interests` borrows them.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as _, wait_ms) };
    if count < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
    }
    let broken = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
    for (interest, entry) in interests.iter_mut().zip(&entries) {
        interest.readable = entry.revents & (libc::POLLIN | broken) != 0;
        interest.writable = entry.revents & (libc::POLLOUT | broken) != 0;
    }
    Ok(count as usize)
}

fn read_clock(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to fill.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "the kernel has had this clock since Linux 2.6.39");
    time
}

/// Sets the calling thread's signal mask (`None`: everything blocked) and returns the old one.
fn replace_signal_mask(mask: Option<&libc::sigset_t>) -> libc::sigset_t {
    let mut full = MaybeUninit::<libc::sigset_t>::uninit();
    let mut previous = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises `full`, so the pointer that pthread_sigmask reads is valid
    // in both cases; `previous` is valid to write, and pthread_sigmask initialises it when it
    // succeeds, which it does for SIG_SETMASK with valid pointers.
    unsafe {
        libc::sigfillset(full.as_mut_ptr());
        let new = mask.map_or(full.as_ptr(), std::ptr::from_ref);
        let result = libc::pthread_sigmask(libc::SIG_SETMASK, new, previous.as_mut_ptr());
        assert_eq!(result, 0, "SIG_SETMASK is a valid operation");
        previous.assume_init()
    }
}

fn fill_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        match random_some(rest) {
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A random identity that is not random would let two rings mix: no fallback.
            Err(error) => panic!("the operating system gives no random bytes: {error}"),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn random_some(bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one valid, writable slice.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn random_some(bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one valid, writable slice.
    let result = unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), bytes.len()) };
    if result == 0 { Ok(bytes.len()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket::Socket;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn blocked_signals() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("SigBlk:")).unwrap();
        u64::from_str_radix(line["SigBlk:".len()..].trim(), 16).unwrap()
    }

    #[test]
    fn clocks_advance_and_agree_with_std() {
        let first = boottime();
        assert!(first > Nanos::ZERO && boottime() >= first);
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(unix_millis().abs_diff(wall.as_millis() as u64) < 1000);
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random_u64(), random_u64());
        let (a, b) = (random_u128(), random_u128());
        assert_ne!(a, b);
        assert_ne!(a >> 64, a & u128::from(u64::MAX));
    }

    #[test]
    fn spawned_threads_have_a_name_and_no_signals_and_the_parent_keeps_its_mask() {
        let before = blocked_signals();
        let thread = spawn("ringkv-wörker-0123456789", || {
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            (name.trim_end().to_owned(), blocked_signals())
        });
        let (name, blocked) = thread.unwrap().join().unwrap();
        assert_eq!(name, "ringkv-wörker-");
        assert_eq!(blocked_signals(), before);
        // Everything but SIGKILL and SIGSTOP, and the two that glibc keeps for itself.
        let unblockable = (1 << (libc::SIGKILL - 1)) | (1 << (libc::SIGSTOP - 1)) | (0b11 << 31);
        assert_eq!(blocked | unblockable, u64::MAX);
        std::thread::spawn(|| {
            block_all_signals();
            assert_ne!(blocked_signals() & (1 << (libc::SIGTERM - 1)), 0);
        })
        .join()
        .unwrap();
    }

    static PIPE_SIGNALS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count_pipe_signal(_: libc::c_int) {
        PIPE_SIGNALS.fetch_add(1, Ordering::Relaxed);
    }

    /// Rust's test mains ignore SIGPIPE, a C host does not: with a handler in place the test sees
    /// what such a host would see. The plain `write` shows that the handler works.
    #[test]
    fn sending_on_a_broken_connection_raises_no_signal() {
        let handler = count_pipe_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler only touches an atomic, which is async-signal-safe.
        unsafe { libc::signal(libc::SIGPIPE, handler) };
        let mut errors = Vec::new();
        for (socket, peer) in [Socket::pair_unix().unwrap(), Socket::pair_tcp().unwrap()] {
            drop(peer);
            // The first send on TCP still succeeds, the reset that it causes breaks the next.
            let error = (0..1000).find_map(|_| {
                std::thread::yield_now();
                socket.send(b"x").err().filter(|e| e.kind() == io::ErrorKind::BrokenPipe)
            });
            errors.push(error.expect("a send on a broken connection fails"));
        }
        assert_eq!(PIPE_SIGNALS.load(Ordering::Relaxed), 0, "errors: {errors:?}");

        let (socket, peer) = Socket::pair_unix().unwrap();
        drop(peer);
        // SAFETY: a valid descriptor and a valid buffer of one byte.
        let written = unsafe { libc::write(socket.as_raw_fd(), b"x".as_ptr().cast(), 1) };
        assert_eq!(written, -1);
        assert_eq!(PIPE_SIGNALS.load(Ordering::Relaxed), 1);
        // SAFETY: what Rust's own start-up code had set.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
}
