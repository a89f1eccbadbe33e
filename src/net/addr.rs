//! Where a node listens and how it is reached: the text form, and what it resolves to.
//!
//! An [`Address`] is what people write (`localhost:7000`, `[::1]:7000`, `unix:/run/ring.sock`); it
//! keeps the name, because a name may mean another machine tomorrow. An [`Endpoint`] is what the
//! kernel understands. Resolving a name may block for seconds, so event loops use
//! [`Address::literal`] and leave names to another thread.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use crate::base::limits::NAME_BYTES_MAX;
use crate::base::{Error, Result, Status};

/// Longest path of a UNIX socket: `sun_path` of Linux without its terminator.
const UNIX_PATH_BYTES_MAX: usize = 107;
const UNIX_PREFIX: &str = "unix:";

/// A place to listen on or to connect to, as people write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A host (name, IPv4, or IPv6 without brackets) and a port.
    Tcp {
        /// Name or IP address.
        host: String,
        /// Port; 0 lets the system choose when listening.
        port: u16,
    },
    /// The path of a UNIX stream socket.
    Unix(PathBuf),
}

/// One place that the kernel can connect to, after names are resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a UNIX stream socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads `host:port`, `[ipv6]:port` or `unix:/path`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > NAME_BYTES_MAX {
            let length = text.len();
            return Err(invalid(format!(
                "an address has {NAME_BYTES_MAX} bytes at most, this one has {length}"
            )));
        }
        if text.is_empty() {
            return Err(invalid("the address is empty; write host:port or unix:/path"));
        }
        match text.strip_prefix(UNIX_PREFIX) {
            Some(path) => parse_unix(text, path),
            None => parse_tcp(text),
        }
    }

    /// Whether only programs of this machine can be meant. False for names other than `localhost`,
    /// since what they mean is not known before they are resolved.
    pub fn is_loopback(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(address) => address.to_canonical().is_loopback(),
                Err(_) => is_localhost(host),
            },
        }
    }

    /// The endpoints of an address that needs no name service: IP addresses, `localhost`, UNIX
    /// paths. Never blocks.
    pub fn literal(&self) -> Option<Vec<Endpoint>> {
        match self {
            Address::Unix(path) => Some(vec![Endpoint::Unix(path.clone())]),
            Address::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(address) => Some(vec![Endpoint::Tcp(SocketAddr::new(address, *port))]),
                Err(_) if is_localhost(host) => Some(vec![
                    Endpoint::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port)),
                    Endpoint::Tcp(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), *port)),
                ]),
                Err(_) => None,
            },
        }
    }

    /// Every endpoint of this address, in the order to try them; at least one. May block in the
    /// system's name service.
    pub fn resolve(&self) -> Result<Vec<Endpoint>> {
        if let Some(endpoints) = self.literal() {
            return Ok(endpoints);
        }
        let Address::Tcp { host, port } = self else { return Ok(Vec::new()) };
        let unknown = |why: String| {
            Error::new(Status::UnknownHost, format!("cannot resolve the host name {host}: {why}"))
        };
        let found = (host.as_str(), *port).to_socket_addrs().map_err(|e| unknown(e.to_string()))?;
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for endpoint in found.map(Endpoint::Tcp) {
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        if endpoints.is_empty() {
            return Err(unknown("it has no address".to_owned()));
        }
        Ok(endpoints)
    }
}

impl FromStr for Address {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp { host: address.ip().to_string(), port: address.port() }
    }
}

impl From<Endpoint> for Address {
    fn from(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Tcp(address) => address.into(),
            Endpoint::Unix(path) => Address::Unix(path),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "{address}"),
            Endpoint::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

fn parse_unix(text: &str, path: &str) -> Result<Address> {
    if path.is_empty() {
        return Err(invalid(format!("\"{text}\" names no path; write unix:/path")));
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(invalid(format!(
            "the path of a UNIX socket has {UNIX_PATH_BYTES_MAX} bytes at most, this one has {}",
            path.len()
        )));
    }
    if path.contains('\0') {
        return Err(invalid("the path of a UNIX socket contains a zero byte"));
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

fn parse_tcp(text: &str) -> Result<Address> {
    let no_port = || invalid(format!("\"{}\" has no port; write host:port", text.escape_debug()));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']').ok_or_else(|| {
                invalid(format!("\"{}\" lacks the closing bracket", text.escape_debug()))
            })?;
            let bare = host.split_once('%').map_or(host, |(bare, _zone)| bare);
            if bare.parse::<Ipv6Addr>().is_err() {
                let host = host.escape_debug();
                return Err(invalid(format!("\"{host}\" is not an IPv6 address")));
            }
            (host, tail.strip_prefix(':').ok_or_else(no_port)?)
        }
        None => text.rsplit_once(':').ok_or_else(no_port)?,
    };
    if !text.starts_with('[') {
        check_host(text, host)?;
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse::<u16>().ok().filter(|_| digits).ok_or_else(|| {
        let port = port.escape_debug();
        invalid(format!("\"{port}\" is not a port; a port is a number from 0 to 65535"))
    })?;
    Ok(Address::Tcp { host: host.to_owned(), port: number })
}

fn check_host(text: &str, host: &str) -> Result<()> {
    let text = text.escape_debug();
    if host.is_empty() {
        return Err(invalid(format!(
            "\"{text}\" names no host; write 127.0.0.1:port or host:port"
        )));
    }
    if host.contains(':') {
        return Err(invalid(format!("\"{text}\" is ambiguous; write IPv6 as [address]:port")));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !host.bytes().all(allowed) {
        return Err(invalid(format!("\"{text}\" contains a character that no host name has")));
    }
    Ok(())
}

/// `localhost` and the names below it mean this machine (RFC 6761).
fn is_localhost(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Status::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_addresses_round_trip() {
        for (text, loopback) in [
            ("localhost:7000", true),
            ("127.0.0.1:0", true),
            ("127.3.2.1:65535", true),
            ("[::1]:7000", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:7000", false),
            ("[::]:7000", false),
            ("node-1.example_net:80", false),
            ("[fe80::1%eth0]:9", false),
            ("unix:/tmp/a b.sock", true),
            ("unix:relative", true),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        let long = format!("{}:1", "a".repeat(NAME_BYTES_MAX));
        let long_path = format!("unix:/{}", "a".repeat(UNIX_PATH_BYTES_MAX));
        for (text, part) in [
            ("", "empty"),
            ("localhost", "no port"),
            ("localhost:", "not a port"),
            ("localhost:+80", "not a port"),
            ("localhost:65536", "from 0 to 65535"),
            (":80", "names no host"),
            ("::1:80", "ambiguous"),
            ("[::1]", "no port"),
            ("[::1:80", "closing bracket"),
            ("[host]:80", "not an IPv6 address"),
            ("a b:80", "no host name"),
            ("unix:", "names no path"),
            ("unix:/a\0b", "zero byte"),
            (&long, "255 bytes at most"),
            (&long_path, "107 bytes at most"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.status(), Status::InvalidArgument);
            assert!(error.message().contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn names_resolve_or_are_named_in_the_error() {
        let localhost = Address::parse("localhost:7").unwrap();
        assert_eq!(localhost.resolve().unwrap()[0].to_string(), "127.0.0.1:7");
        let unknown = Address::parse("no-such-host.invalid:7").unwrap();
        assert_eq!(unknown.literal(), None);
        let error = unknown.resolve().unwrap_err();
        assert_eq!(error.status(), Status::UnknownHost);
        assert!(error.message().contains("no-such-host.invalid"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_round_trips(text in "\\PC{0,40}|[\\[\\]a-z0-9:%.]{0,20}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
            }
        }
    }
}
