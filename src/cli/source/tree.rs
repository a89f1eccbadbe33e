//! The files of a directory tree: the key is the path below the directory, the value the content.
//!
//! Links to files are followed, links to directories are not (they may lead in circles).

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Item, Items, too_long};
use crate::cli::output::{Failure, Outcome, io_text};

pub(super) fn open(root: &Path, value_bytes_max: usize) -> Outcome<Items> {
    // The first listing shows at once whether the directory can be read at all.
    let pending = listing(root)
        .map_err(|error| Failure::io(format!("cannot read {}", root.display()), &error))?;
    Ok(Box::new(Files { root: root.to_owned(), pending, value_bytes_max }))
}

/// Walks the tree depth first, in the order of names, so that two readings give the same order.
struct Files {
    root: PathBuf,
    /// What is still to be visited, the next one last.
    pending: Vec<PathBuf>,
    value_bytes_max: usize,
}

impl Iterator for Files {
    type Item = Outcome<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(path) = self.pending.pop() {
            match self.visit(&path) {
                Ok(Some(item)) => return Some(Ok(item)),
                Ok(None) => {}
                Err(error) => {
                    let why = format!("{}: {}", path.display(), io_text(&error));
                    return Some(Ok(Item::Skipped(why)));
                }
            }
        }
        None
    }
}

impl Files {
    fn visit(&mut self, path: &Path) -> std::io::Result<Option<Item>> {
        if fs::symlink_metadata(path)?.is_dir() {
            self.pending.extend(listing(path)?);
            return Ok(None);
        }
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Ok(None);
        }
        if !metadata.is_file() {
            return Ok(Some(Item::Skipped(format!("{}: not a regular file", path.display()))));
        }
        if metadata.len() > self.value_bytes_max as u64 {
            return Ok(Some(too_long(path.display(), metadata.len(), self.value_bytes_max)));
        }
        let mut value = Vec::with_capacity(metadata.len() as usize);
        // Bounded again: a file may grow after it was looked at.
        fs::File::open(path)?.take(self.value_bytes_max as u64 + 1).read_to_end(&mut value)?;
        if value.len() > self.value_bytes_max {
            return Ok(Some(too_long(path.display(), value.len() as u64, self.value_bytes_max)));
        }
        let key = path.strip_prefix(&self.root).unwrap_or(path);
        Ok(Some(Item::Pair(key.as_os_str().as_bytes().to_vec(), value)))
    }
}

/// The entries of a directory, the first name last.
fn listing(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_unstable_by(|a, b| b.cmp(a));
    Ok(entries)
}
