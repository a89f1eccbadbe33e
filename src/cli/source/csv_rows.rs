//! Rows of a CSV file: the key is the text of one column, the value the row as it is in the file,
//! without its line end. Line ends may be LF, CR LF or CR; quoted fields may contain them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{Item, Items, too_long};
use crate::cli::output::{Failure, Outcome, io_text};

/// The parser reads blocks of this size, so this much of the file is kept beside the row.
const BLOCK_BYTES: usize = 64 * 1024;
/// A row longer than this is a quote that was never closed, not a row.
const ROW_BYTES_MAX: usize = crate::base::limits::VALUE_BYTES_MAX + BLOCK_BYTES;

pub(super) fn open(path: &Path, key: Option<&str>, value_bytes_max: usize) -> Outcome<Items> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| Failure::io(format!("cannot read {name}"), &e))?;
    Ok(Box::new(Rows::new(file, name, key, value_bytes_max)?))
}

struct Rows<R> {
    reader: Reader<Tee<R>>,
    record: ByteRecord,
    name: String,
    key: String,
    column: usize,
    row: u64,
    value_bytes_max: usize,
    failed: bool,
}

impl<R: Read> Rows<R> {
    fn new(input: R, name: String, key: Option<&str>, value_bytes_max: usize) -> Outcome<Self> {
        let tee = Tee { input, kept: Vec::new(), start: 0 };
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BLOCK_BYTES)
            .from_reader(tee);
        let mut header = ByteRecord::new();
        let some = reader.read_byte_record(&mut header).map_err(|e| failure(&name, &e))?;
        if !some {
            return Err(Failure::new(format!("{name} is empty: it has no header line")));
        }
        let titles: Vec<String> = header
            .iter()
            .enumerate()
            .map(|(at, title)| match at {
                // Spreadsheets put a byte order mark before the first title.
                0 => title.strip_prefix(b"\xef\xbb\xbf").unwrap_or(title),
                _ => title,
            })
            .map(|title| String::from_utf8_lossy(title.trim_ascii()).into_owned())
            .collect();
        let columns = titles.join(", ");
        let Some(key) = key else {
            return Err(Failure::new(format!(
                "say with --key which column of {name} is the key; its columns are {columns}"
            )));
        };
        let Some(column) = titles.iter().position(|title| title == key) else {
            return Err(Failure::new(format!(
                "{name} has no column '{key}'; its columns are {columns}"
            )));
        };
        let (key, record) = (key.to_owned(), ByteRecord::new());
        Ok(Self { reader, record, name, key, column, row: 0, value_bytes_max, failed: false })
    }

    fn next_item(&mut self) -> Outcome<Option<Item>> {
        let from = self.reader.position().byte();
        let some =
            self.reader.read_byte_record(&mut self.record).map_err(|e| failure(&self.name, &e))?;
        if !some {
            return Ok(None);
        }
        self.row += 1;
        let to = self.reader.position().byte();
        let raw = self.reader.get_mut().take(from, to);
        // What stands between two records is line ends only: the second half of a CR LF is
        // counted to the next record, and blank lines are skipped.
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let first = raw.iter().position(|b| !is_end(b)).unwrap_or(raw.len());
        let last = raw.iter().rposition(|b| !is_end(b)).map_or(first, |at| at + 1);
        let value = &raw[first..last];
        let row = format_args!("row {} of {}", self.row, self.name);
        if value.len() > self.value_bytes_max {
            return Ok(Some(too_long(row, value.len() as u64, self.value_bytes_max)));
        }
        Ok(Some(match self.record.get(self.column) {
            Some(b"") => Item::Skipped(format!("{row}: its {} is empty", self.key)),
            Some(key) => Item::Pair(key.to_vec(), value.to_vec()),
            None => Item::Skipped(format!("{row}: it ends before the column {}", self.key)),
        }))
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Outcome<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.next_item();
        self.failed = item.is_err();
        item.transpose()
    }
}

fn failure(name: &str, error: &csv::Error) -> Failure {
    let why = match error.kind() {
        csv::ErrorKind::Io(error) => io_text(error),
        _ => error.to_string(),
    };
    Failure::new(format!("cannot read {name}: {why}"))
}

/// Passes the file on to the parser and keeps what the parser has not finished, because a value is
/// the row's own bytes and not what the parser made of them.
///
/// Invariant: `kept[0]` is the file's byte `start`.
struct Tee<R> {
    input: R,
    kept: Vec<u8>,
    start: u64,
}

impl<R> Tee<R> {
    /// The bytes `from..to` of the file. What lies before `from` is forgotten.
    fn take(&mut self, from: u64, to: u64) -> &[u8] {
        let done = (from - self.start) as usize;
        // Moving the rest down only when much is done keeps the cost linear.
        if done > BLOCK_BYTES {
            self.kept.drain(..done);
            self.start = from;
        }
        &self.kept[(from - self.start) as usize..(to - self.start) as usize]
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.kept.len() > ROW_BYTES_MAX + 2 * BLOCK_BYTES {
            return Err(io::Error::other(format!(
                "a row has more than {} MiB; is a quote not closed?",
                ROW_BYTES_MAX >> 20
            )));
        }
        let count = self.input.read(buffer)?;
        self.kept.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
pub(super) fn from_bytes(input: &'static [u8], key: Option<&str>) -> Outcome<Items> {
    Ok(Box::new(Rows::new(input, "test.csv".into(), key, 1000)?))
}
