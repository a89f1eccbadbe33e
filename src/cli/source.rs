//! Where `load` takes keys and values from: a CSV file, JSON lines, or a directory tree.
//!
//! A source is read as a stream and can be read again from the start, which is how everything that
//! was stored is compared with where it came from. What cannot be stored (a row without the key
//! column, an unreadable file) is an item too, with the reason, so that it is named and the rest
//! goes on.

mod csv_rows;
mod json_lines;
mod tree;

use std::path::{Path, PathBuf};

use super::args::{FormatName, SourceArgs};
use super::output::{Failure, Outcome};

/// One thing that a source holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A key and its value.
    Pair(Vec<u8>, Vec<u8>),
    /// What cannot be stored, and why.
    Skipped(String),
}

/// The items of one reading, ended by the first failure.
pub type Items = Box<dyn Iterator<Item = Outcome<Item>>>;

/// A checked description of a source.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    format: FormatName,
    key: Option<String>,
}

impl Source {
    /// Finds out what is at `path`, and that it can be read.
    pub fn open(path: &Path, args: &SourceArgs) -> Outcome<Self> {
        let what = || format!("cannot read {}", path.display());
        let metadata = std::fs::metadata(path).map_err(|error| Failure::io(what(), &error))?;
        let format = match args.format {
            Some(format) => format,
            None if metadata.is_dir() => FormatName::Dir,
            None => guess(path, args)?,
        };
        if metadata.is_dir() != (format == FormatName::Dir) {
            let is = if metadata.is_dir() { "a directory" } else { "not a directory" };
            return Err(Failure::new(format!("{} is {is}", path.display())));
        }
        if format == FormatName::Dir && args.key.is_some() {
            return Err(Failure::new("--key names a column, and a directory has none"));
        }
        Ok(Self { path: path.to_owned(), format, key: args.key.clone() })
    }

    /// Reads it from the start. Values longer than `value_bytes_max` become skipped items.
    pub fn items(&self, value_bytes_max: usize) -> Outcome<Items> {
        match self.format {
            FormatName::Csv => csv_rows::open(&self.path, self.key.as_deref(), value_bytes_max),
            FormatName::Jsonl => json_lines::open(&self.path, self.key.clone(), value_bytes_max),
            FormatName::Dir => tree::open(&self.path, value_bytes_max),
        }
    }

    /// How many bytes it has, if that is known before it is read.
    pub fn size(&self) -> Option<u64> {
        match self.format {
            FormatName::Dir => None,
            _ => std::fs::metadata(&self.path).ok().map(|m| m.len()).filter(|len| *len > 0),
        }
    }

    /// How a person would call it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn guess(path: &Path, args: &SourceArgs) -> Outcome<FormatName> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("csv") => Ok(FormatName::Csv),
        Some("jsonl" | "ndjson" | "json") => Ok(FormatName::Jsonl),
        // Only tables have columns, and CSV is the commoner one.
        _ if args.key.is_some() => Ok(FormatName::Csv),
        _ => Err(Failure::new(format!(
            "cannot tell what {} is from its name: say --format csv or --format jsonl",
            path.display()
        ))),
    }
}

/// The sentence for a value that the ring would refuse.
fn too_long(name: impl std::fmt::Display, bytes: u64, bytes_max: usize) -> Item {
    Item::Skipped(format!(
        "{name}: {} is over the ring's limit of {} for a value",
        super::text::bytes(bytes),
        super::text::bytes(bytes_max as u64),
    ))
}

#[cfg(test)]
mod tests;
