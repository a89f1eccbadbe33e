//! One connected stream, TCP or UNIX, and one listener of either kind.
//!
//! Both are nonblocking, closed on exec, and owned by exactly one value: dropping it closes the
//! descriptor. A [`Socket`] is bound to no event loop, so it can be accepted by one thread and
//! served by another. Sending never raises SIGPIPE (see [`sys::SEND_FLAGS`](super::sys)).

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::{Domain, SockAddr, Type};

use super::addr::{Address, Endpoint};
use super::sys;
use crate::base::{Error, Result, Status};

/// Connections that the kernel keeps waiting for us to accept them.
const BACKLOG: i32 = 1024;

/// How many accepted connections may exist at the same time, wherever they live. Shared by the
/// listeners of one node; each accepted [`Socket`] gives its place back when it is dropped.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` connections.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Connections that exist now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>) -> Option<Permit> {
        let take = |used| (used < self.limit).then_some(used + 1);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|_| Permit(Arc::clone(self)))
    }
}

#[derive(Debug)]
struct Permit(Arc<Budget>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connected stream.
#[derive(Debug)]
pub struct Socket {
    inner: socket2::Socket,
    peer: Endpoint,
    _permit: Option<Permit>,
}

impl Socket {
    /// Where the other end is. For an accepted UNIX connection: the path of the listener.
    pub fn peer(&self) -> &Endpoint {
        &self.peer
    }

    /// Sends what the kernel takes; `WouldBlock` if it takes nothing.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.inner.send_with_flags(bytes, sys::SEND_FLAGS) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Receives what is there, up to `buffer.len()` bytes; 0 is the end of the stream.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.inner).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Ends the stream in both directions: the peer sees it at once, even if a forked child still
    /// has the descriptor.
    pub(super) fn shut_down(&self) {
        // Fails only when the connection is broken already, which is what is wanted.
        let _ = self.inner.shutdown(Shutdown::Both);
    }

    /// A socket on its way to `endpoint`, and whether it is connected already.
    pub(super) fn start_connect(endpoint: &Endpoint) -> io::Result<(Self, bool)> {
        let (domain, address) = match endpoint {
            Endpoint::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Endpoint::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let inner = socket2::Socket::new(domain, Type::STREAM, None)?;
        inner.set_nonblocking(true)?;
        let connected = match inner.connect(&address) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => false,
            Err(error) => return Err(error),
        };
        let socket = Self { inner, peer: endpoint.clone(), _permit: None };
        if connected {
            socket.finish_connect()?;
        }
        Ok((socket, connected))
    }

    /// To be called when a connecting socket became writable: the outcome.
    pub(super) fn finish_connect(&self) -> io::Result<()> {
        if let Some(error) = self.inner.take_error()? {
            return Err(error);
        }
        let peer = self.inner.peer_addr()?;
        if matches!(self.peer, Endpoint::Tcp(_)) {
            // The kernel may choose the very port that we dial as our own when nobody listens on
            // it, and then connects the socket to itself. That is nobody's node.
            if self.inner.local_addr()?.as_socket() == peer.as_socket() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            self.inner.set_tcp_nodelay(true)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn pair_unix() -> io::Result<(Self, Self)> {
        let (a, b) = socket2::Socket::pair(Domain::UNIX, Type::STREAM, None)?;
        let wrap = |inner: socket2::Socket| -> io::Result<Self> {
            inner.set_nonblocking(true)?;
            Ok(Self { inner, peer: Endpoint::Unix(PathBuf::new()), _permit: None })
        };
        Ok((wrap(a)?, wrap(b)?))
    }

    #[cfg(test)]
    pub(super) fn pair_tcp() -> io::Result<(Self, Self)> {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), Budget::new(1)).unwrap();
        let endpoint = listener.address.literal().unwrap().remove(0);
        let (dialled, _) = Self::start_connect(&endpoint)?;
        loop {
            match listener.accept() {
                Ok(Some(accepted)) => return Ok((dialled, accepted)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => panic!("accept: {other:?}"),
            }
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// A listening socket. Removes its file when it is dropped, if it is a UNIX one.
#[derive(Debug)]
pub struct Listener {
    inner: socket2::Socket,
    address: Address,
    budget: Arc<Budget>,
    _file: Option<SocketFile>,
}

impl Listener {
    /// Listens on `address`; a name stands for the first of its addresses that this machine has.
    /// The accepted connections take their place from `budget`. May block if the host is a name.
    pub fn bind(address: &Address, budget: Arc<Budget>) -> Result<Self> {
        let mut last = None;
        for endpoint in address.resolve()? {
            let bound = match &endpoint {
                Endpoint::Tcp(_) => bind_tcp(&endpoint).map(|inner| (inner, None)),
                Endpoint::Unix(path) => bind_unix(path).map(|(inner, file)| (inner, Some(file))),
            };
            match bound {
                Ok((inner, file)) => {
                    let address = listening_address(address, &inner)?;
                    return Ok(Self { inner, address, budget, _file: file });
                }
                // Not the next address: half of a name that others already answer is a trap.
                Err(error) if error.status() == Status::AddressInUse => {
                    last = Some(error);
                    break;
                }
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| Status::UnknownHost.into());
        Err(error.context(format_args!("cannot listen on {address}")))
    }

    /// Where it listens: what was asked for, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection; `None` if it was refused because the budget is spent.
    pub(super) fn accept(&self) -> io::Result<Option<Socket>> {
        let (inner, peer) = self.inner.accept()?;
        let Some(permit) = self.budget.take() else { return Ok(None) };
        inner.set_nonblocking(true)?;
        let peer = match (&self.address, peer.as_socket()) {
            (Address::Tcp { .. }, Some(address)) => {
                inner.set_tcp_nodelay(true)?;
                Endpoint::Tcp(address)
            }
            (Address::Unix(path), _) => Endpoint::Unix(path.clone()),
            (Address::Tcp { .. }, None) => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Some(Socket { inner, peer, _permit: Some(permit) }))
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// The file of a UNIX listener, as we created it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    process: u32,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not if this is a forked child, and not if somebody else has taken the path since.
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode);
        if ours && self.process == sys::process_id() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn bind_tcp(endpoint: &Endpoint) -> Result<socket2::Socket> {
    let Endpoint::Tcp(address) = endpoint else { return Err(Status::Internal.into()) };
    let bind = || -> io::Result<socket2::Socket> {
        let inner = socket2::Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
        // Lets a restarted node have its port back while old connections are in TIME_WAIT; on
        // Linux this does not let two listeners share a port.
        inner.set_reuse_address(true)?;
        inner.bind(&SockAddr::from(*address))?;
        listen(inner)
    };
    bind().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => in_use(),
        _ => error.into(),
    })
}

/// A path that a dead process left behind is taken over; one where somebody answers, or that is
/// no socket, is refused. Two processes that take over the same stale path at the same instant can
/// both believe they won (the loser then listens on a file without a name): give each its own.
fn bind_unix(path: &Path) -> Result<(socket2::Socket, SocketFile)> {
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            let message = "the path exists and is not a socket";
            return Err(Error::new(Status::AddressInUse, message));
        }
        let stale = Socket::start_connect(&Endpoint::Unix(path.to_owned()))
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !stale {
            return Err(in_use());
        }
        std::fs::remove_file(path)?;
    }
    let inner = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    inner.bind(&SockAddr::unix(path)?)?;
    let metadata = std::fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
        process: sys::process_id(),
    };
    Ok((listen(inner)?, file))
}

fn listen(inner: socket2::Socket) -> io::Result<socket2::Socket> {
    inner.set_nonblocking(true)?;
    inner.listen(BACKLOG)?;
    Ok(inner)
}

fn listening_address(asked: &Address, inner: &socket2::Socket) -> Result<Address> {
    match asked {
        Address::Unix(_) => Ok(asked.clone()),
        Address::Tcp { host, port: 0 } => {
            let port = inner.local_addr()?.as_socket().map_or(0, |address| address.port());
            Ok(Address::Tcp { host: host.clone(), port })
        }
        Address::Tcp { .. } => Ok(asked.clone()),
    }
}

fn in_use() -> Error {
    Error::new(Status::AddressInUse, "the address is in use by another program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_with_a_sentence_that_names_it() {
        let any = Address::parse("localhost:0").unwrap();
        let first = Listener::bind(&any, Budget::new(1)).unwrap();
        assert!(!first.address().to_string().ends_with(":0"));
        let error = Listener::bind(first.address(), Budget::new(1)).unwrap_err();
        // localhost has two addresses; the second may be free, so ask for the first by number.
        let Address::Tcp { port, .. } = *first.address() else { panic!("TCP") };
        let taken = Address::parse(&format!("127.0.0.1:{port}")).unwrap();
        let by_number = Listener::bind(&taken, Budget::new(1)).unwrap_err();
        for error in [error, by_number] {
            assert_eq!(error.status(), Status::AddressInUse);
            assert!(error.message().contains(&port.to_string()), "{error}");
        }
        drop(first);
        Listener::bind(&taken, Budget::new(1)).unwrap();
    }

    #[test]
    fn unix_paths_are_refused_while_live_taken_over_when_stale_and_removed_at_the_end() {
        let path = std::env::temp_dir().join(format!("ringkv-net-{}.sock", sys::random_u64()));
        let address = Address::Unix(path.clone());
        let live = Listener::bind(&address, Budget::new(1)).unwrap();
        let error = Listener::bind(&address, Budget::new(1)).unwrap_err();
        assert_eq!(error.status(), Status::AddressInUse);
        assert!(error.message().contains(path.to_str().unwrap()), "{error}");
        drop(live);
        assert!(!path.exists());

        // std does not remove the file: what a killed process leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listener::bind(&address, Budget::new(1)).unwrap());
        assert!(!path.exists());

        std::fs::write(&path, "not a socket").unwrap();
        let error = Listener::bind(&address, Budget::new(1)).unwrap_err();
        assert!(error.message().contains("not a socket"), "{error}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_listener_does_not_remove_what_another_program_put_at_its_path() {
        let path = std::env::temp_dir().join(format!("ringkv-net-{}.sock", sys::random_u64()));
        let listener = Listener::bind(&Address::Unix(path.clone()), Budget::new(1)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(other);
        std::fs::remove_file(&path).unwrap();
    }
}
