//! The status numbers of the header, which are those of `base::error::Status`.

/// What happened to a call: `RINGKV_OK`, or a negative number. -1xx is about the arguments,
/// -2xx about the key or the handle, -3xx about the ring, -4xx about input and output, -9xx is
/// a bug of ringkv. A number never changes its meaning; new ones may be added, so treat an
/// unknown one as an error that `ringkv_status_str` and `ringkv_last_error` explain.
pub type ringkv_status = i32;

/// The operation took effect.
pub const RINGKV_OK: ringkv_status = 0;
/// An argument is not of the form that the function asks for.
pub const RINGKV_INVALID_ARGUMENT: ringkv_status = -101;
/// The key is longer than 4 KiB, or empty.
pub const RINGKV_KEY_TOO_LARGE: ringkv_status = -102;
/// The value is longer than the ring's limit.
pub const RINGKV_VALUE_TOO_LARGE: ringkv_status = -103;
/// The caller's buffer is too small; the needed length was returned.
pub const RINGKV_BUFFER_TOO_SMALL: ringkv_status = -104;
/// An option or a call that this version of the library does not know.
pub const RINGKV_UNSUPPORTED: ringkv_status = -105;
/// No such key.
pub const RINGKV_NOT_FOUND: ringkv_status = -201;
/// The key is there already and the write was conditional on its absence.
pub const RINGKV_EXISTS: ringkv_status = -202;
/// The handle is closed.
pub const RINGKV_CLOSED: ringkv_status = -203;
/// The handle was opened before a fork, by the parent process.
pub const RINGKV_FORKED: ringkv_status = -204;
/// The key's value is not the expected one. It was not changed.
pub const RINGKV_MISMATCH: ringkv_status = -205;
/// The key's value is not a whole number of 64 bits as decimal text. It was not changed.
pub const RINGKV_NOT_A_NUMBER: ringkv_status = -206;
/// The sum would not be a number of 64 bits. The value was not changed.
pub const RINGKV_OVERFLOW: ringkv_status = -207;
/// The deadline passed. A write may or may not have taken effect.
pub const RINGKV_TIMEOUT: ringkv_status = -301;
/// Nobody who could execute the operation can be reached. It was not executed.
pub const RINGKV_UNAVAILABLE: ringkv_status = -302;
/// Fewer in-sync copies than `min_insync`. The write was not executed.
pub const RINGKV_NOT_ENOUGH_REPLICAS: ringkv_status = -303;
/// A bounded queue is full. The operation was not executed: slow down and try again.
pub const RINGKV_BUSY: ringkv_status = -304;
/// Every copy of the key's partition died. Nothing is known about the key.
pub const RINGKV_DATA_LOST: ringkv_status = -305;
/// The ring refuses the change; the message says why and what would be needed.
pub const RINGKV_REFUSED: ringkv_status = -306;
/// The node belongs to another ring, or the ring is not the one that was meant.
pub const RINGKV_WRONG_RING: ringkv_status = -307;
/// The node's memory limit is reached. The write was not executed.
pub const RINGKV_OUT_OF_MEMORY: ringkv_status = -308;
/// No member of that name or address.
pub const RINGKV_NO_SUCH_MEMBER: ringkv_status = -309;
/// The change of the ring was aborted before it was complete.
pub const RINGKV_ABORTED: ringkv_status = -310;
/// The operating system refused an input or output operation.
pub const RINGKV_IO: ringkv_status = -401;
/// The address cannot be reached.
pub const RINGKV_CONNECT: ringkv_status = -402;
/// The address is in use by another program.
pub const RINGKV_ADDRESS_IN_USE: ringkv_status = -403;
/// The peer does not speak our protocol, or breaks it.
pub const RINGKV_PROTOCOL: ringkv_status = -404;
/// The host name cannot be resolved.
pub const RINGKV_UNKNOWN_HOST: ringkv_status = -405;
/// The connection broke after a write was sent. It may or may not have taken effect.
pub const RINGKV_CONNECTION_LOST: ringkv_status = -406;
/// A bug of the library: please report it with its message.
pub const RINGKV_INTERNAL: ringkv_status = -901;
/// A panic was caught inside the library. The handle is no longer usable.
pub const RINGKV_PANIC: ringkv_status = -902;

/// Every constant above with its name, so that a test can hold them against `Status::ALL`.
pub const ALL: [(&str, ringkv_status); 31] = [
    ("RINGKV_OK", RINGKV_OK),
    ("RINGKV_INVALID_ARGUMENT", RINGKV_INVALID_ARGUMENT),
    ("RINGKV_KEY_TOO_LARGE", RINGKV_KEY_TOO_LARGE),
    ("RINGKV_VALUE_TOO_LARGE", RINGKV_VALUE_TOO_LARGE),
    ("RINGKV_BUFFER_TOO_SMALL", RINGKV_BUFFER_TOO_SMALL),
    ("RINGKV_UNSUPPORTED", RINGKV_UNSUPPORTED),
    ("RINGKV_NOT_FOUND", RINGKV_NOT_FOUND),
    ("RINGKV_EXISTS", RINGKV_EXISTS),
    ("RINGKV_CLOSED", RINGKV_CLOSED),
    ("RINGKV_FORKED", RINGKV_FORKED),
    ("RINGKV_MISMATCH", RINGKV_MISMATCH),
    ("RINGKV_NOT_A_NUMBER", RINGKV_NOT_A_NUMBER),
    ("RINGKV_OVERFLOW", RINGKV_OVERFLOW),
    ("RINGKV_TIMEOUT", RINGKV_TIMEOUT),
    ("RINGKV_UNAVAILABLE", RINGKV_UNAVAILABLE),
    ("RINGKV_NOT_ENOUGH_REPLICAS", RINGKV_NOT_ENOUGH_REPLICAS),
    ("RINGKV_BUSY", RINGKV_BUSY),
    ("RINGKV_DATA_LOST", RINGKV_DATA_LOST),
    ("RINGKV_REFUSED", RINGKV_REFUSED),
    ("RINGKV_WRONG_RING", RINGKV_WRONG_RING),
    ("RINGKV_OUT_OF_MEMORY", RINGKV_OUT_OF_MEMORY),
    ("RINGKV_NO_SUCH_MEMBER", RINGKV_NO_SUCH_MEMBER),
    ("RINGKV_ABORTED", RINGKV_ABORTED),
    ("RINGKV_IO", RINGKV_IO),
    ("RINGKV_CONNECT", RINGKV_CONNECT),
    ("RINGKV_ADDRESS_IN_USE", RINGKV_ADDRESS_IN_USE),
    ("RINGKV_PROTOCOL", RINGKV_PROTOCOL),
    ("RINGKV_UNKNOWN_HOST", RINGKV_UNKNOWN_HOST),
    ("RINGKV_CONNECTION_LOST", RINGKV_CONNECTION_LOST),
    ("RINGKV_INTERNAL", RINGKV_INTERNAL),
    ("RINGKV_PANIC", RINGKV_PANIC),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Status;

    #[test]
    fn the_numbers_are_those_of_the_library_and_in_its_order() {
        assert_eq!(ALL.len(), Status::ALL.len());
        for (status, (name, code)) in Status::ALL.into_iter().zip(ALL) {
            assert_eq!(status.code(), code, "{name}");
            let squeezed = name.trim_start_matches("RINGKV_").replace('_', "").to_lowercase();
            assert_eq!(format!("{status:?}").to_lowercase(), squeezed);
        }
    }
}
