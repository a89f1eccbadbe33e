//! Messages of the library on stderr, one line each.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ringkv") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            // A lost message is better than a node that dies because nobody reads its stderr.
            let _ = writeln!(std::io::stderr(), "ringkv: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Installs it, unless the host program has a logger of its own.
pub fn install(level: LevelFilter) {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
