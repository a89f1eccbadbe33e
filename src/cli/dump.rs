//! `ringkv dump`: every key and value of the ring, as JSON lines or as files.
//!
//! A dump to a regular file is written beside it and renamed when it is whole, so that half a dump
//! never looks like one. Times to live are not in a dump: what is loaded from one lives until it is
//! deleted.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::args::{DumpArgs, DumpFormat};
use super::output::{Done, Failure, Outcome, io_text, note};
use super::text::{bytes, counted, duration, escaped, put_bytes};
use super::{Session, connect, progress};
use crate::node::interrupt::poll_interrupt;
use crate::{Ring, ScanOptions};

/// Keys that cannot be file names and are named; the others are counted.
const NAMED_MAX: u64 = 10;

/// `ringkv dump`
pub(super) fn run(args: &DumpArgs, session: &mut Session) -> Outcome {
    let ring = connect(&args.target)?;
    let started = Instant::now();
    let walk = Walk {
        prefix: args.prefix.as_ref().map(|p| p.as_bytes().to_vec()).unwrap_or_default(),
        bar: progress::counted("dumping", ring.info()?.keys, session.out.json),
        ring,
    };
    let dumped = match (&args.out, args.format) {
        (Some(path), DumpFormat::Jsonl) => walk.to_file(path)?,
        (Some(path), DumpFormat::Dir) => walk.to_directory(path)?,
        (None, DumpFormat::Jsonl) => walk.to_stdout(session)?,
        (None, DumpFormat::Dir) => {
            return Err(Failure::new("--format dir needs --out with the directory to write to"));
        }
    };
    walk.bar.finish_and_clear();
    if let Some(path) = &args.out {
        report(path, &dumped, started.elapsed(), session)?;
    }
    dumped.complete().map(|()| Done::Yes)
}

fn report(path: &Path, dumped: &Dumped, took: Duration, session: &mut Session) -> Outcome<()> {
    let path = path.display().to_string();
    if session.out.json {
        session.out.json_line(&json!({
            "out": path, "keys": dumped.keys, "bytes": dumped.bytes, "skipped": dumped.skipped,
            "seconds": took.as_secs_f64(),
        }))?;
    } else {
        let (keys, size) = (counted(dumped.keys, "key"), bytes(dumped.bytes));
        session.out.line(format_args!("dumped {keys}, {size} in {} to {path}", duration(took)))?;
    }
    Ok(())
}

/// What is to be dumped.
struct Walk {
    ring: Ring,
    prefix: Vec<u8>,
    bar: ProgressBar,
}

impl Walk {
    fn to_file(&self, path: &Path) -> Outcome<Dumped> {
        let mut file = TargetFile::create(path)?;
        let dumped = self.each(|key, value, dumped| {
            dumped.count(key, value);
            file.write(&line(key, value))
        })?;
        file.finish()?;
        Ok(dumped)
    }

    fn to_directory(&self, path: &Path) -> Outcome<Dumped> {
        fs::create_dir_all(path)
            .map_err(|error| Failure::io(format!("cannot create {}", path.display()), &error))?;
        self.each(|key, value, dumped| write_file(path, key, value, dumped))
    }

    fn to_stdout(&self, session: &mut Session) -> Outcome<Dumped> {
        let dumped = self.each(|key, value, dumped| {
            dumped.count(key, value);
            Ok(session.out.json_line(&line(key, value))?)
        })?;
        session.out.flush()?;
        Ok(dumped)
    }

    fn each(
        &self,
        mut sink: impl FnMut(&[u8], &[u8], &mut Dumped) -> Outcome<()>,
    ) -> Outcome<Dumped> {
        let mut dumped = Dumped::default();
        let options = ScanOptions { prefix: self.prefix.clone(), ..Default::default() };
        let mut pages = self.ring.scan(options)?;
        while let Some(page) = pages.next_page()? {
            poll_interrupt()?;
            for (key, value) in page {
                sink(&key, &value, &mut dumped)?;
                self.bar.inc(1);
            }
        }
        Ok(dumped)
    }
}

#[derive(Debug, Default)]
struct Dumped {
    keys: u64,
    bytes: u64,
    skipped: u64,
}

impl Dumped {
    fn count(&mut self, key: &[u8], value: &[u8]) {
        self.keys += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }

    /// An error if any key is not in the dump.
    fn complete(&self) -> Outcome<()> {
        match self.skipped {
            0 => Ok(()),
            skipped => Err(Failure::new(format!(
                "{} cannot be a file name below the directory; --format jsonl takes every key",
                counted(skipped, "key")
            ))),
        }
    }

    fn skip(&mut self, key: &[u8], why: &str) {
        self.skipped += 1;
        if self.skipped <= NAMED_MAX {
            note(format_args!("not dumped: {}: {why}", escaped(key)));
        }
    }
}

fn line(key: &[u8], value: &[u8]) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "key", key, false);
    put_bytes(&mut object, "value", value, false);
    Value::Object(object)
}

/// The file that a dump goes to: a regular one is replaced as a whole, a device or pipe is written.
struct TargetFile {
    stream: BufWriter<File>,
    path: PathBuf,
    /// Where it is written until it is whole.
    partial: Option<PathBuf>,
}

impl TargetFile {
    fn create(path: &Path) -> Outcome<Self> {
        let is_special = fs::metadata(path).is_ok_and(|m| !m.is_file());
        let partial = (!is_special).then(|| {
            let mut name = path.as_os_str().to_owned();
            name.push(".partial");
            PathBuf::from(name)
        });
        let written = partial.as_deref().unwrap_or(path);
        let file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).open(written).map_err(
                |error| Failure::io(format!("cannot write {}", written.display()), &error),
            )?;
        let stream = BufWriter::with_capacity(256 * 1024, file);
        Ok(Self { stream, path: path.to_owned(), partial })
    }

    fn write(&mut self, line: &Value) -> Outcome<()> {
        let written: io::Result<()> = serde_json::to_writer(&mut self.stream, line)
            .map_err(io::Error::from)
            .and_then(|()| self.stream.write_all(b"\n"));
        written.map_err(|error| self.failure(&error))
    }

    /// Everything is on the disk and under its name, or this fails.
    fn finish(mut self) -> Outcome<()> {
        self.stream.flush().map_err(|error| self.failure(&error))?;
        if let Some(partial) = &self.partial {
            self.stream
                .get_ref()
                .sync_all()
                .and_then(|()| fs::rename(partial, &self.path))
                .map_err(|error| self.failure(&error))?;
        }
        self.partial = None;
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::io(format!("cannot write {}", self.path.display()), error)
    }
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // It is not whole; if it cannot be removed its name says so.
            let _ = fs::remove_file(partial);
        }
    }
}

/// Writes one key as a file below `root`. Keys that would leave `root`, or that are not written the
/// way a path is, are skipped: loading the directory again must give the same keys.
fn write_file(root: &Path, key: &[u8], value: &[u8], dumped: &mut Dumped) -> Outcome<()> {
    let Some(relative) = file_name(key) else {
        dumped.skip(key, "not a relative path");
        return Ok(());
    };
    let path = root.join(relative);
    let written = match path.parent() {
        Some(parent) => fs::create_dir_all(parent).and_then(|()| fs::write(&path, value)),
        None => fs::write(&path, value),
    };
    match written {
        Ok(()) => {
            dumped.count(key, value);
            Ok(())
        }
        // One key is a directory on the way to another one, or a name is too long for the disk.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::InvalidFilename
            ) =>
        {
            dumped.skip(key, &io_text(&error));
            Ok(())
        }
        Err(error) => Err(Failure::io(format!("cannot write {}", path.display()), &error)),
    }
}

fn file_name(key: &[u8]) -> Option<&Path> {
    let path = Path::new(std::ffi::OsStr::from_bytes(key));
    let mut parts = path.components().map(|part| match part {
        Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    });
    let spelled = parts.by_ref().collect::<Option<Vec<&[u8]>>>()?.join(&b'/');
    (!key.is_empty() && spelled == key && !key.contains(&0)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk() -> Walk {
        let ring = Ring::start(crate::NodeConfig::default()).expect("a ring of one");
        Walk { ring, prefix: Vec::new(), bar: progress::counted("", 0, true) }
    }

    #[test]
    fn a_dump_loads_again_byte_for_byte() {
        let pairs: [(&[u8], &[u8]); 3] =
            [(b"a", b"text"), (b"\xff\x00", b"binary key"), (b"b/c", b"\xfe\n\x00")];
        let from = walk();
        for (key, value) in pairs {
            from.ring.put(key, value, &Default::default()).expect("put");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("all.jsonl");
        assert_eq!(from.to_file(&path).expect("dumps").keys, 3);
        assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 1, "nothing partial");

        let to = walk();
        let args = crate::cli::args::SourceArgs { key: None, format: None };
        let source = crate::cli::source::Source::open(&path, &args).expect("opens");
        crate::cli::load::load(&to.ring, &source, 2, true).expect("loads").complete().expect("all");
        for (key, value) in pairs {
            let got = to.ring.get(key, &Default::default()).expect("get");
            assert_eq!(got.as_deref(), Some(value));
        }
        from.ring.close();
        to.ring.close();
    }

    #[test]
    fn a_directory_takes_what_can_be_a_file_and_names_the_rest() {
        let walk = walk();
        for key in ["x/y.h", "../outside", "/abs", "plain"] {
            walk.ring.put(key.as_bytes(), key.as_bytes(), &Default::default()).expect("put");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("below");
        let dumped = walk.to_directory(&root).expect("dumps");
        assert_eq!((dumped.keys, dumped.skipped), (2, 2));
        assert!(dumped.complete().is_err());
        assert_eq!(fs::read(root.join("x/y.h")).expect("is there"), b"x/y.h");
        assert!(!directory.path().join("outside").exists());
        walk.ring.close();
    }

    #[test]
    fn a_full_disk_is_one_sentence() {
        let walk = walk();
        walk.ring.put(b"k", b"v", &Default::default()).expect("put");
        let failure = walk.to_file(Path::new("/dev/full")).expect_err("is full");
        assert_eq!(
            failure.sentence().as_deref(),
            Some("cannot write /dev/full: no space left on device")
        );
        walk.ring.close();
    }

    #[test]
    fn only_plain_relative_paths_become_files() {
        for good in ["a", "a/b.h", "\u{e4}", ".hidden", "a..b"] {
            assert!(file_name(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0b", "a/./b"] {
            assert!(file_name(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
