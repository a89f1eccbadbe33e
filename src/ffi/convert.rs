//! From C arguments to Rust values and back, with every check that can be made.

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::{align_of, size_of};
use std::time::Duration;

use super::guard::{invalid, required};
use super::types::{ringkv_buf, ringkv_bytes, ringkv_progress};
use crate::base::{Error, Result, Status};
use crate::node::Progress;

/// Larger than any options struct will ever be: a `size` above it is an uninitialised struct.
const OPTIONS_BYTES_MAX: usize = 4096;

/// A struct of options that C fills.
///
/// # Safety
///
/// The type is `repr(C)` without padding, begins with `size: u32, flags: u32`, its size is a
/// multiple of 8, and any bytes are a valid value of it, zeros being the defaults.
pub(super) unsafe trait Options: Copy {
    /// What the struct is called in messages.
    const NAME: &'static str;
    /// The bits of `flags` that have a meaning.
    const FLAGS: u32;
    /// The fields that must be zero, or'ed.
    fn reserved(&self) -> u32;
}

/// The options at `pointer`, or the defaults if it is NULL. A shorter struct comes from a
/// caller that was built with an older header, a longer one from a newer one.
///
/// # Safety
///
/// `pointer` is NULL or points at as many readable bytes as its `size` field says.
pub(super) unsafe fn options<T: Options>(pointer: *const T) -> Result<T> {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8) };
    // SAFETY: zeros are a valid value of every `Options` type.
    let mut value: T = unsafe { std::mem::zeroed() };
    if pointer.is_null() {
        return Ok(value);
    }
    required(pointer.cast_mut(), T::NAME)?;
    // SAFETY: the struct begins with `size`; the pointer is not NULL and aligned.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    if !(8..=OPTIONS_BYTES_MAX).contains(&size) || !size.is_multiple_of(8) {
        let message = format!("{}.size is {size}: use the _INIT macro of the type", T::NAME);
        return Err(invalid(message));
    }
    // SAFETY: the caller vouches for `size` readable bytes; `value` has room for its own size,
    // and any bytes are a valid value of an `Options` type.
    let (rest, flags) = unsafe {
        let bytes = std::slice::from_raw_parts(pointer.cast::<u8>(), size);
        let known = size.min(size_of::<T>());
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut value).cast(), known);
        (&bytes[known..], (&raw const value).cast::<u32>().add(1).read())
    };
    if flags & !T::FLAGS != 0 || value.reserved() != 0 || rest.iter().any(|byte| *byte != 0) {
        let message = format!("{} asks for something that this version does not know", T::NAME);
        return Err(Error::new(Status::Unsupported, message));
    }
    Ok(value)
}

/// The bytes of one argument.
///
/// # Safety
///
/// `data` is NULL or points at `len` bytes that stay readable and unchanged for `'a`.
pub(super) unsafe fn bytes<'a>(data: *const c_void, len: usize, name: &str) -> Result<&'a [u8]> {
    match data.is_null() {
        true if len == 0 => Ok(&[]),
        true => Err(invalid(format!("{name} is NULL, but its length is {len}"))),
        false if len > isize::MAX as usize => Err(invalid(format!("{name} has an absurd length"))),
        // SAFETY: not NULL, of a possible length, and the caller vouches for the rest.
        false => Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) }),
    }
}

/// The elements of an array argument.
///
/// # Safety
///
/// `data` is NULL or points at `count` elements that stay readable and unchanged for `'a`.
pub(super) unsafe fn array<'a, T>(data: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    match data.is_null() {
        true if count == 0 => Ok(&[]),
        true => Err(invalid(format!("{name} is NULL, but its count is {count}"))),
        false if !data.is_aligned() => Err(invalid(format!("{name} is not aligned"))),
        false if count > isize::MAX as usize / size_of::<T>() => {
            Err(invalid(format!("{name} has an absurd count")))
        }
        // SAFETY: not NULL, aligned, of a possible size, and the caller vouches for the rest.
        false => Ok(unsafe { std::slice::from_raw_parts(data, count) }),
    }
}

/// A NUL-terminated UTF-8 argument; `None` if it is NULL or empty.
///
/// # Safety
///
/// `text` is NULL or points at a NUL-terminated string that stays unchanged for `'a`.
pub(super) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and the caller vouches for the NUL at its end.
    let text = unsafe { CStr::from_ptr(text) };
    let text = text.to_str().map_err(|_| invalid(format!("{name} is not valid UTF-8")))?;
    Ok((!text.is_empty()).then_some(text))
}

/// [`text`] that must be there.
///
/// # Safety
///
/// As for [`text`].
pub(super) unsafe fn required_text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: the same contract.
    let text = unsafe { text(pointer, name) }?;
    text.ok_or_else(|| invalid(format!("{name} is NULL or empty")))
}

/// The parts of a comma list.
pub(super) fn comma_list(list: Option<&str>) -> Vec<String> {
    let parts = list.unwrap_or("").split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).map(String::from).collect()
}

/// A timeout in milliseconds; 0 is "not given".
pub(super) fn timeout(ms: u32) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(u64::from(ms)))
}

/// Hands a value over to C.
pub(super) fn buf_from(mut value: Vec<u8>) -> ringkv_buf {
    let len = value.len();
    value.push(0);
    let mut value = std::mem::ManuallyDrop::new(value);
    let owner = std::ptr::without_provenance_mut(value.capacity());
    ringkv_buf { data: value.as_mut_ptr().cast(), len, owner }
}

/// Takes back what [`buf_from`] handed over.
///
/// # Safety
///
/// `buf` was made by `buf_from`, is unchanged, and was not taken back before; or its data is
/// NULL.
pub(super) unsafe fn buf_into_vec(buf: ringkv_buf) -> Vec<u8> {
    if buf.data.is_null() {
        return Vec::new();
    }
    // SAFETY: these are the parts that `buf_from` took the vector apart into; its length counts
    // the NUL that was pushed.
    unsafe { Vec::from_raw_parts(buf.data.cast(), buf.len + 1, buf.owner.addr()) }
}

/// A view of bytes that somebody else keeps alive.
pub(super) fn view(bytes: &[u8]) -> ringkv_bytes {
    ringkv_bytes { data: bytes.as_ptr().cast(), len: bytes.len() }
}

/// Copies text and a NUL to the caller's buffer. The length is written in any case: it is what
/// a caller with too small a buffer needs.
///
/// # Safety
///
/// `buf` has room for `cap` bytes; `out_len` is NULL or can be written.
pub(super) unsafe fn copy_text(
    text: &str,
    buf: *mut c_char,
    cap: usize,
    out_len: *mut usize,
) -> Result<()> {
    let fits = !buf.is_null() && text.len() < cap;
    // SAFETY: `text.len() + 1 <= cap` bytes are written to `buf`, and `out_len` if not NULL.
    unsafe {
        if fits {
            std::ptr::copy_nonoverlapping(text.as_ptr(), buf.cast(), text.len());
            buf.add(text.len()).write(0);
        }
        if !out_len.is_null() {
            out_len.write(text.len());
        }
    }
    match fits {
        true => Ok(()),
        false => {
            let message = format!("{} bytes are needed, with the NUL", text.len() + 1);
            Err(Error::new(Status::BufferTooSmall, message))
        }
    }
}

/// A report for C: the struct that C sees, and behind it all that its pointers point at.
#[repr(C)]
pub(super) struct Report<T> {
    seen: T,
    behind: Behind,
}

/// What the pointers of a report point at. Boxes do not move when the vectors grow.
#[derive(Default)]
pub(super) struct Behind {
    strings: Vec<CString>,
    boxes: Vec<Box<dyn Any>>,
}

impl Behind {
    /// A NUL-terminated copy of `text`.
    pub(super) fn text(&mut self, text: &str) -> *const c_char {
        let clean: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
        self.strings.push(CString::new(clean).unwrap_or_default());
        self.strings.last().map_or(c"".as_ptr(), |text| text.as_ptr())
    }

    /// An array of `items`; not NULL even if it is empty.
    pub(super) fn array<T: 'static>(&mut self, items: Vec<T>) -> *const T {
        let items = items.into_boxed_slice();
        let first = items.as_ptr();
        self.boxes.push(Box::new(items));
        first
    }

    /// An array of pointers to each of `items`, so that an item can grow in a later version.
    pub(super) fn pointers<T: 'static>(&mut self, items: Vec<T>) -> *const *const T {
        let count = items.len();
        let first = self.array(items);
        self.array((0..count).map(|i| first.wrapping_add(i)).collect())
    }

    /// Hands the report over to C.
    pub(super) fn hand_over<T>(self, seen: T) -> *mut T {
        Box::into_raw(Box::new(Report { seen, behind: self })).cast()
    }
}

/// Frees the report that `slot` points at and sets it to NULL. NULL is fine at both levels.
///
/// # Safety
///
/// `*slot` is NULL or came from [`Behind::hand_over`] of the same type and was not freed
/// before.
pub(super) unsafe fn free_report<T>(slot: *mut *mut T) {
    // SAFETY: the caller's contract; the report begins with the struct that C saw.
    unsafe {
        if !slot.is_null() && !(*slot).is_null() {
            let report = slot.replace(std::ptr::null_mut()).cast::<Report<T>>();
            drop(Box::from_raw(report));
        }
    }
}

impl From<&Progress> for ringkv_progress {
    fn from(progress: &Progress) -> Self {
        Self { copies_done: progress.copies_done, copies_total: progress.copies_total }
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{ringkv_read_options, ringkv_write_options};
    use super::*;

    fn status_of<T>(result: Result<T>) -> Status {
        result.err().map_or(Status::Ok, |error| error.status())
    }

    #[test]
    fn an_older_and_a_newer_caller_are_understood() {
        #[repr(C, align(8))]
        struct Longer([u32; 8]);
        let read = |words: &Longer| {
            // SAFETY: `words` is longer than any size that the test writes into it.
            unsafe { options::<ringkv_write_options>((&raw const words.0).cast()) }
        };
        let mut words = Longer([16, 0, 7, 0, 99, 0, 0, 0]);
        let older = read(&words).expect("an older caller");
        assert_eq!((older.ttl_ms, older.timeout_ms), (7, 0), "the rest are defaults");
        words.0[0] = 32;
        assert_eq!(read(&words).expect("a newer caller").timeout_ms, 99);
        words.0[7] = 1;
        assert_eq!(status_of(read(&words)), Status::Unsupported);
        for size in [0, 4, 12, 20, 4104, u32::MAX] {
            words.0[0] = size;
            assert_eq!(status_of(read(&words)), Status::InvalidArgument, "size {size}");
        }
        words.0 = [24, 0x8000_0000, 0, 0, 0, 0, 0, 0];
        assert_eq!(status_of(read(&words)), Status::Unsupported, "an unknown flag");
        words.0 = [24, 0, 0, 0, 0, 5, 0, 0];
        assert_eq!(status_of(read(&words)), Status::Unsupported, "a reserved field");
    }

    #[test]
    fn no_options_are_the_defaults() {
        // SAFETY: NULL is allowed.
        let options =
            unsafe { options::<ringkv_read_options>(std::ptr::null()) }.expect("defaults");
        assert_eq!((options.timeout_ms, options.lookup), (0, 0));
    }

    #[test]
    fn a_buffer_comes_back_whole() {
        for value in [vec![], vec![1, 2, 3], vec![0; 1000]] {
            let buf = buf_from(value.clone());
            // SAFETY: `buf` was just made, and is taken back once.
            let back = unsafe { buf_into_vec(buf) };
            assert_eq!(back.split_last(), Some((&0, value.as_slice())));
        }
    }

    #[test]
    fn lists_and_texts() {
        assert_eq!(comma_list(Some(" a:1, ,b:2,")), ["a:1", "b:2"]);
        assert!(comma_list(None).is_empty());
        // SAFETY: literals are NUL-terminated.
        unsafe {
            assert_eq!(text(c"".as_ptr(), "name"), Ok(None));
            assert_eq!(required_text(c"x".as_ptr(), "name"), Ok("x"));
            assert_eq!(status_of(text(c"\xff".as_ptr(), "name")), Status::InvalidArgument);
            assert_eq!(status_of(required_text(c"".as_ptr(), "name")), Status::InvalidArgument);
        }
    }
}
