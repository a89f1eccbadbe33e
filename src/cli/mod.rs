//! The command line: `ringkv node`, `put`, `get`, `ring`, `add`, `drop` and so on.
//!
//! A thin user of the public Rust API: nothing here knows how a ring works inside. It is a module
//! of the library, not of the program, because `python -m ringkv` calls the same [`main`]; so it
//! never exits the process, it returns the exit status.
//!
//! Conventions, the same for every command: results on stdout, as text for people or with `--json`
//! for scripts; what went wrong as one sentence on stderr; progress bars on stderr, only on a
//! terminal; keys and values are bytes and come out unambiguously. Exit status 0 found or done,
//! 1 not found (or not in order, or not verified), 2 error, 130 interrupted, 141 the reader of our
//! output went away.

mod args;
mod bench;
mod change;
mod data;
mod demo;
mod draw;
mod dump;
mod facts;
mod load;
mod logger;
mod node;
mod output;
mod progress;
mod reset;
mod ring;
mod run;
mod signals;
mod source;
mod text;
mod watch;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use clap::Parser;

use crate::{ClientConfig, Lookup, Ring, with_interrupt};
use args::{Cli, Command, KeyForm, ModeName, Target};
use output::{Done, EXIT_ERROR, EXIT_NO, EXIT_YES, Failure, Out, Outcome};
use signals::{Interrupted, Signals};

/// What every command is given.
struct Session {
    out: Out,
    signals: Signals,
}

impl Session {
    fn interrupted(&self) -> Interrupted {
        self.signals.interrupted()
    }
}

/// Runs the command line `args` (the first one is the program's name) and returns the exit status.
///
/// While it runs, SIGINT and SIGTERM belong to it; they end the command in order.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    logger::install(cli.log);
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&Failure::io("cannot handle signals", &error), false);
            return EXIT_ERROR;
        }
    };
    let interrupted = signals.interrupted();
    let mut session = Session { out: Out::stdout(cli.json), signals };
    let asked = interrupted.clone();
    let outcome: Outcome = with_interrupt(
        move || asked.is_set(),
        || -> Outcome {
            let done = dispatch(cli.command, &mut session)?;
            session.out.flush()?;
            Ok(done)
        },
    );
    match outcome {
        Ok(Done::Yes) => EXIT_YES,
        Ok(Done::No) => EXIT_NO,
        Err(failure) => {
            if session.out.json
                && let Some(value) = failure.json()
            {
                // What cannot be written here is said on stderr all the same.
                let _ = session.out.json_line(&value).and_then(|()| session.out.flush());
            }
            complain(&failure, interrupted.is_set());
            failure.exit_status(interrupted.is_set())
        }
    }
}

fn dispatch(command: Command, session: &mut Session) -> Outcome {
    match command {
        Command::Node(args) => node::run(&args, session),
        Command::Put(args) => data::put(&args, session),
        Command::Get(args) => data::get(&args, session),
        Command::Del(args) => data::del(&args, session),
        Command::Incr(args) => data::incr(&args, session),
        Command::Cas(args) => data::cas(&args, session),
        Command::Scan(args) => data::scan(&args, session),
        Command::Load(args) => load::run(&args, session),
        Command::Dump(args) => dump::run(&args, session),
        Command::Ring(args) => ring::ring(&args, session),
        Command::Watch(args) => watch::run(&args, session),
        Command::Locate(args) => ring::locate(&args, session),
        Command::Add(args) => change::add(&args, session),
        Command::Drop(args) => change::drop(&args, session),
        Command::Plan(args) => change::plan(&args, session),
        Command::Reset(args) => reset::run(&args, session),
        Command::Health(args) => ring::health(&args, session),
        Command::Demo(args) => demo::run(&args, session),
        Command::Bench(args) => bench::run(&args, session),
        Command::Run(args) => run::run(&args, session),
    }
}

/// Help and version go to stdout as they are; a mistake becomes one sentence.
fn usage(error: &clap::Error) -> i32 {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => EXIT_YES,
            Err(problem) => {
                let failure = Failure::from(problem);
                complain(&failure, false);
                failure.exit_status(false)
            }
        };
    }
    let text = error.render().to_string();
    complain(&Failure::Message(usage_sentence(&text)), false);
    EXIT_ERROR
}

/// The first paragraph of clap's message and its tips, on one line.
fn usage_sentence(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut sentence = first.split_whitespace().collect::<Vec<&str>>().join(" ");
    for line in rest.lines().map(str::trim) {
        if line.starts_with("tip:") || line.starts_with('[') {
            sentence.push_str("; ");
            sentence.push_str(line.strip_prefix("tip: ").unwrap_or(line));
        }
    }
    sentence.push_str(" (try 'ringkv --help')");
    sentence
}

fn complain(failure: &Failure, interrupted: bool) {
    let sentence = match failure.sentence() {
        Some(_) if interrupted && failure.is_abort() => "interrupted".into(),
        Some(sentence) if interrupted => format!("interrupted: {sentence}"),
        Some(sentence) => sentence,
        None => return,
    };
    output::note(sentence.replace('\n', " "));
}

fn connect(target: &Target) -> Outcome<Ring> {
    Ok(Ring::connect(&target.ring, ClientConfig { timeout: target.timeout() })?)
}

/// A key or prefix as it was typed.
fn typed_bytes(form: KeyForm, typed: &OsStr) -> Outcome<Vec<u8>> {
    if !form.hex {
        return Ok(typed.as_bytes().to_vec());
    }
    typed.to_str().and_then(text::unhex).ok_or_else(|| {
        Failure::new(format!("'{}' is not a row of hexadecimal digit pairs", typed.display()))
    })
}

/// A key on one line of text.
fn shown_key(form: KeyForm, key: &[u8]) -> String {
    match form.hex {
        true => text::hex(key),
        false => text::escaped(key),
    }
}

fn lookup(mode: ModeName) -> Lookup {
    match mode {
        ModeName::Direct => Lookup::Direct,
        ModeName::Iterative => Lookup::Iterative,
        ModeName::Recursive => Lookup::Recursive,
        ModeName::Local => Lookup::Local,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_one_sentence() {
        for line in
            [&["ringkv", "get"][..], &["ringkv", "put", "k"], &["ringkv", "--jsn"], &["ringkv"]]
        {
            let error = Cli::try_parse_from(line).expect_err("a mistake");
            let sentence = usage_sentence(&error.render().to_string());
            assert!(!sentence.contains('\n') && !sentence.contains("Usage"), "{sentence}");
            assert!(sentence.len() > 30, "{sentence}");
        }
    }
}
