//! One error type for the whole library: a status with a fixed number, and a sentence.

use std::fmt;

/// What happened to an operation. The numbers are part of the C ABI: they never change and are
/// never used again for something else. Grouped: -1xx arguments, -2xx state of the key or the
/// handle, -3xx the ring, -4xx input and output, -9xx a bug of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Status {
    /// The operation took effect.
    Ok = 0,
    /// An argument is not of the form that the function asks for.
    InvalidArgument = -101,
    /// The key is longer than 4 KiB, or empty.
    KeyTooLarge = -102,
    /// The value is longer than the ring's limit.
    ValueTooLarge = -103,
    /// The caller's buffer is too small; the needed length was returned.
    BufferTooSmall = -104,
    /// An option or a call that this version of the library does not know.
    Unsupported = -105,
    /// No such key.
    NotFound = -201,
    /// The key is there already and the write was conditional on its absence.
    Exists = -202,
    /// The handle is closed.
    Closed = -203,
    /// The handle was opened before a fork, by the parent process.
    Forked = -204,
    /// The key's value is not the expected one. It was not changed.
    Mismatch = -205,
    /// The key's value is not a whole number of 64 bits as decimal text. It was not changed.
    NotANumber = -206,
    /// The sum would not be a number of 64 bits. The value was not changed.
    Overflow = -207,
    /// The deadline passed. A write may or may not have taken effect.
    Timeout = -301,
    /// Nobody who could execute the operation can be reached. It was not executed.
    Unavailable = -302,
    /// Fewer in-sync copies than `min_insync`. The write was not executed.
    NotEnoughReplicas = -303,
    /// A bounded queue is full. The operation was not executed: slow down and try again.
    Busy = -304,
    /// Every copy of the key's partition died. Nothing is known about the key.
    DataLost = -305,
    /// The ring refuses the change; the message says why and what would be needed.
    Refused = -306,
    /// The node belongs to another ring, or the ring is not the one that was meant.
    WrongRing = -307,
    /// The node's memory limit is reached. The write was not executed.
    OutOfMemory = -308,
    /// No member of that name or address.
    NoSuchMember = -309,
    /// The change of the ring was aborted before it was complete.
    Aborted = -310,
    /// The operating system refused an input or output operation.
    Io = -401,
    /// The address cannot be reached.
    Connect = -402,
    /// The address is in use by another program.
    AddressInUse = -403,
    /// The peer does not speak our protocol, or breaks it.
    Protocol = -404,
    /// The host name cannot be resolved.
    UnknownHost = -405,
    /// The connection broke after a write was sent. It may or may not have taken effect.
    ConnectionLost = -406,
    /// A bug of the library: please report it with its message.
    Internal = -901,
    /// A panic was caught inside the library. The handle is no longer usable.
    Panic = -902,
}

impl Status {
    /// Every status, in the order of the header.
    pub const ALL: [Status; 31] = [
        Status::Ok,
        Status::InvalidArgument,
        Status::KeyTooLarge,
        Status::ValueTooLarge,
        Status::BufferTooSmall,
        Status::Unsupported,
        Status::NotFound,
        Status::Exists,
        Status::Closed,
        Status::Forked,
        Status::Mismatch,
        Status::NotANumber,
        Status::Overflow,
        Status::Timeout,
        Status::Unavailable,
        Status::NotEnoughReplicas,
        Status::Busy,
        Status::DataLost,
        Status::Refused,
        Status::WrongRing,
        Status::OutOfMemory,
        Status::NoSuchMember,
        Status::Aborted,
        Status::Io,
        Status::Connect,
        Status::AddressInUse,
        Status::Protocol,
        Status::UnknownHost,
        Status::ConnectionLost,
        Status::Internal,
        Status::Panic,
    ];

    /// The fixed number of this status.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The status with this number, if there is one.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// A short text without details, for logs and `ringkv_status_str`.
    pub fn text(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::InvalidArgument => "invalid argument",
            Status::KeyTooLarge => "key is empty or too large",
            Status::ValueTooLarge => "value is too large",
            Status::BufferTooSmall => "buffer is too small",
            Status::Unsupported => "not supported by this version",
            Status::NotFound => "not found",
            Status::Exists => "key exists already",
            Status::Closed => "handle is closed",
            Status::Forked => "handle belongs to the parent process",
            Status::Mismatch => "value is not the expected one",
            Status::NotANumber => "value is not a whole number of 64 bits",
            Status::Overflow => "sum is not a number of 64 bits",
            Status::Timeout => "timed out; a write may or may not have taken effect",
            Status::Unavailable => "unavailable",
            Status::NotEnoughReplicas => "not enough in-sync copies",
            Status::Busy => "busy",
            Status::DataLost => "every copy of the key's partition is lost",
            Status::Refused => "refused by the ring",
            Status::WrongRing => "wrong ring",
            Status::OutOfMemory => "memory limit of the node is reached",
            Status::NoSuchMember => "no such member",
            Status::Aborted => "aborted",
            Status::Io => "input/output error",
            Status::Connect => "cannot connect",
            Status::AddressInUse => "address is in use",
            Status::Protocol => "protocol error",
            Status::UnknownHost => "unknown host",
            Status::ConnectionLost => "connection lost; a write may or may not have taken effect",
            Status::Internal => "internal error",
            Status::Panic => "internal error (panic)",
        }
    }

    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Status::Timeout
                | Status::Unavailable
                | Status::NotEnoughReplicas
                | Status::Busy
                | Status::Connect
                | Status::ConnectionLost
        )
    }

    /// Whether a write that ended this way may have taken effect, or may still do so.
    pub fn maybe_applied(self) -> bool {
        // The last six end calls that were under way, and say nothing about what they had begun.
        matches!(
            self,
            Status::Timeout
                | Status::ConnectionLost
                | Status::DataLost
                | Status::Closed
                | Status::Aborted
                | Status::Io
                | Status::Protocol
                | Status::Internal
                | Status::Panic
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A status and the sentence that explains it to a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    status: Status,
    message: String,
}

impl Error {
    /// An error with its own sentence.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// What happened, as a number that programs can act on.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What happened, as a sentence for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `context: ` before its sentence.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::new(status, status.text())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let status = match error.kind() {
            std::io::ErrorKind::AddrInUse => Status::AddressInUse,
            std::io::ErrorKind::ConnectionRefused => Status::Connect,
            std::io::ErrorKind::TimedOut => Status::Timeout,
            _ => Status::Io,
        };
        Self::new(status, error.to_string())
    }
}

/// The result of everything that can fail.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found_by_number() {
        for status in Status::ALL {
            assert_eq!(Status::from_code(status.code()), Some(status));
        }
        let mut codes: Vec<i32> = Status::ALL.iter().map(|s| s.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Status::ALL.len());
        assert_eq!(Status::from_code(1), None);
    }

    #[test]
    fn what_may_have_been_applied_is_never_called_executed() {
        for status in Status::ALL.into_iter().filter(|s| s.maybe_applied()) {
            assert_ne!(status, Status::Ok);
        }
        assert!(Status::Timeout.maybe_applied());
        assert!(!Status::Busy.maybe_applied());
        // What promises that nothing was executed must not take it back.
        for status in [Status::Unavailable, Status::NotEnoughReplicas, Status::OutOfMemory] {
            assert!(!status.maybe_applied());
        }
    }
}
