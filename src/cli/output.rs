//! How a command ends and what it prints: one place for exit statuses, sentences and streams.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde_json::{Value, json};

use crate::base::{Error, Status};

/// How a command ended that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Found, stored, in order.
    Yes,
    /// Not found, not in order, not verified.
    No,
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The ring or the library says why.
    Ring(Error),
    /// The command line, a file or the terminal is the reason.
    Message(String),
    /// Whoever read our output went away; nobody is left to be told.
    BrokenPipe,
}

/// The result of a command.
pub type Outcome<T = Done> = Result<T, Failure>;

impl Failure {
    /// A sentence of our own.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    /// A failed input or output, with what was attempted.
    pub fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Message(format!("{what}: {}", io_text(error))),
        }
    }

    /// The sentence, if there is anything to say.
    pub fn sentence(&self) -> Option<String> {
        match self {
            Self::Ring(error) => Some(error.message().to_owned()),
            Self::Message(message) => Some(message.clone()),
            Self::BrokenPipe => None,
        }
    }

    /// Whether a blocking call ended because somebody asked for it.
    pub fn is_abort(&self) -> bool {
        matches!(self, Self::Ring(error) if error.status() == Status::Aborted)
    }

    /// The exit status that belongs to it.
    pub fn exit_status(&self, interrupted: bool) -> i32 {
        match self {
            Self::BrokenPipe => EXIT_BROKEN_PIPE,
            _ if interrupted => EXIT_INTERRUPTED,
            Self::Ring(error) if error.status() == Status::NotFound => EXIT_NO,
            Self::Ring(_) | Self::Message(_) => EXIT_ERROR,
        }
    }

    /// The same as JSON, for scripts that parse our output.
    pub fn json(&self) -> Option<Value> {
        Some(match self {
            Self::Ring(error) => json!({"error": {
                "code": error.status().code(),
                "status": error.status().text(),
                "retryable": error.status().is_retryable(),
                "maybe_applied": error.status().maybe_applied(),
                "message": error.message(),
            }}),
            Self::Message(message) => json!({"error": {"message": message}}),
            Self::BrokenPipe => return None,
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ring(error)
    }
}

impl From<io::Error> for Failure {
    /// Only writing to standard output is turned into a failure by `?`: it needs no more words.
    fn from(error: io::Error) -> Self {
        Self::io("cannot write to standard output", &error)
    }
}

pub const EXIT_YES: i32 = 0;
pub const EXIT_NO: i32 = 1;
pub const EXIT_ERROR: i32 = 2;
/// What a shell reports for a program that SIGINT ended.
pub const EXIT_INTERRUPTED: i32 = 130;
/// What a shell reports for a program that SIGPIPE ended.
pub const EXIT_BROKEN_PIPE: i32 = 141;

/// The operating system's words without the number that only programmers read.
pub fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    let mut text = text[..end].to_owned();
    if let Some(first) = text.get(..1) {
        let lower = first.to_ascii_lowercase();
        text.replace_range(..1, &lower);
    }
    text
}

/// One sentence on stderr. If that cannot be written, nobody is left to be told.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "ringkv: {text}");
}

/// Standard output of a command, buffered, in the form that was asked for.
pub struct Out {
    stream: BufWriter<Box<dyn Write>>,
    /// JSON instead of text.
    pub json: bool,
    /// Whether a person looks at it.
    pub terminal: bool,
}

impl Out {
    /// The standard output of this process.
    pub fn stdout(json: bool) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self { stream: BufWriter::with_capacity(64 * 1024, Box::new(stdout)), json, terminal }
    }

    /// One line of JSON.
    pub fn json_line(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.stream, value)?;
        self.stream.write_all(b"\n")
    }

    /// One line of text.
    pub fn line(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.stream, "{text}")
    }

    /// A line of text that should be seen while the command goes on; nothing in JSON form.
    pub fn progress_line(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        self.line(text)?;
        self.stream.flush()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_the_system_lose_their_number() {
        assert_eq!(io_text(&io::Error::from_raw_os_error(28)), "no space left on device");
    }

    #[test]
    fn exit_statuses_follow_the_table() {
        let not_found = Failure::Ring(Status::NotFound.into());
        assert_eq!(not_found.exit_status(false), EXIT_NO);
        assert_eq!(Failure::Ring(Status::Timeout.into()).exit_status(false), EXIT_ERROR);
        assert_eq!(Failure::new("x").exit_status(false), EXIT_ERROR);
        assert_eq!(Failure::new("x").exit_status(true), EXIT_INTERRUPTED);
        assert_eq!(Failure::BrokenPipe.exit_status(true), EXIT_BROKEN_PIPE);
    }
}
