//! Who executes the operations: a handle in this process, or a program in C or Python.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use ringkv::net::sys::boottime;
use ringkv::{ClientConfig, Error, ReadOptions, Ring, Status, WriteOptions};

use crate::build::{Executable, Program, Variant, root};
use crate::history::{Outcome, Request};
use crate::janitor::Janitor;

/// What came of an operation, and when. As in a `Record`.
pub struct Answer {
    pub called: u64,
    pub answered: u64,
    pub outcome: Outcome,
}

/// Executes one operation at a time. `None` if the client is no more.
pub trait Executor: Send {
    fn execute(&mut self, key: &str, request: Request) -> Option<Answer>;
}

/// Where clients begin, and when they give up.
#[derive(Clone)]
pub struct Contact {
    pub seeds: String,
    pub timeout: Duration,
}

impl Contact {
    pub fn ring(&self) -> Ring {
        let config = ClientConfig { timeout: self.timeout };
        Ring::connect(&self.seeds, config).expect("the nodes are a ring")
    }
}

/// Through the Rust API.
pub struct InProcess(pub Ring);

impl Executor for InProcess {
    fn execute(&mut self, key: &str, request: Request) -> Option<Answer> {
        let key = key.as_bytes();
        let put = |value: u64, if_absent: bool| {
            let options = WriteOptions { if_absent, ..WriteOptions::default() };
            self.0.put(key, value.to_string().as_bytes(), &options)
        };
        let called = boottime().0;
        let result: Result<Outcome, Error> = match request {
            Request::Get => self.0.get(key, &ReadOptions::default()).map(|value| {
                Outcome::Read(value.map(|value| value_of(&String::from_utf8_lossy(&value))))
            }),
            Request::Put(value) => put(value, false).map(|()| Outcome::Stored),
            Request::PutIfAbsent(value) => match put(value, true) {
                Err(error) if error.status() == Status::Exists => Ok(Outcome::Condition(false)),
                result => result.map(|()| Outcome::Condition(true)),
            },
            Request::Delete => self.0.delete(key, &WriteOptions::default()).map(Outcome::Condition),
            Request::Cas(expected, value) => {
                let expected = expected.map(|value| value.to_string().into_bytes());
                let value = value.to_string().into_bytes();
                let options = WriteOptions::default();
                let swapped = self.0.cas(key, expected.as_deref(), &value, &options);
                swapped.map(Outcome::Condition)
            }
            Request::Incr(delta) => {
                let sum = self.0.incr(key, delta as i64, &WriteOptions::default());
                sum.map(|sum| Outcome::Sum(u64::try_from(sum).unwrap_or(u64::MAX)))
            }
        };
        let answered = boottime().0;
        let outcome = result.unwrap_or_else(|error| Outcome::error(error.status()));
        Some(Answer { called, answered, outcome })
    }
}

/// A program that takes operations from its standard input; `client.c` says how.
pub struct Spawned {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    janitor: Janitor,
}

impl Spawned {
    /// The C program, linked with the library under test.
    pub fn c(contact: &Contact, janitor: &Janitor) -> Spawned {
        static BUILT: OnceLock<Executable> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            Program::at(&root().join("tests/chaos/client.c")).compile(Variant::C11)
        });
        Spawned::start(Command::new(built.path()), contact, janitor)
    }

    /// The Python program; the package must be importable.
    pub fn python(python: &PathBuf, contact: &Contact, janitor: &Janitor) -> Spawned {
        let mut command = Command::new(python);
        command.arg(root().join("tests/chaos/client.py"));
        Spawned::start(command, contact, janitor)
    }

    fn start(mut command: Command, contact: &Contact, janitor: &Janitor) -> Spawned {
        let timeout = contact.timeout.as_millis().to_string();
        command.args([&contact.seeds, &timeout]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        janitor.born(&child);
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut client = Spawned { child, input, output, janitor: janitor.clone() };
        assert_eq!(client.words().unwrap_or_default(), ["ready"], "stderr has the reason");
        client
    }

    /// The words of the next line, if there is one.
    fn words(&mut self) -> Option<Vec<String>> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        let whole = line.ends_with('\n');
        whole.then(|| line.split_whitespace().map(String::from).collect())
    }
}

impl Executor for Spawned {
    fn execute(&mut self, key: &str, request: Request) -> Option<Answer> {
        let line = match request {
            Request::Get => format!("get {key}\n"),
            Request::Put(value) => format!("put {key} {value}\n"),
            Request::PutIfAbsent(value) => format!("new {key} {value}\n"),
            Request::Delete => format!("del {key}\n"),
            Request::Cas(None, value) => format!("cas {key} {value} -\n"),
            Request::Cas(Some(expected), value) => format!("cas {key} {value} {expected}\n"),
            Request::Incr(delta) => format!("add {key} {delta}\n"),
        };
        self.input.write_all(line.as_bytes()).ok()?;
        let begun = self.words()?;
        let ended = self.words()?;
        let number = |words: &[String], at: usize| words[at].parse().expect("a number");
        assert_eq!(begun[0], "invoke");
        let status = || Status::from_code(ended[2].parse().expect("a status")).expect("known");
        let outcome = match (ended[0].as_str(), request) {
            ("fail", _) => Outcome::Failed(status()),
            ("unknown", _) => Outcome::Unknown(status()),
            (_, Request::Get) if ended[2] == "-" => Outcome::Read(None),
            (_, Request::Get) => Outcome::Read(Some(value_of(&ended[2]))),
            (_, Request::Put(_)) => Outcome::Stored,
            (_, Request::Incr(_)) => Outcome::Sum(value_of(&ended[2])),
            (_, Request::PutIfAbsent(_) | Request::Delete | Request::Cas(..)) => {
                Outcome::Condition(ended[2] == "1")
            }
        };
        Some(Answer { called: number(&begun, 1), answered: number(&ended, 1), outcome })
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // A client that is still busy has its deadline; nobody waits for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.janitor.gone(&self.child);
    }
}

/// A value that nobody wrote has no number; it becomes one that nobody wrote either.
fn value_of(text: &str) -> u64 {
    text.parse().unwrap_or(u64::MAX)
}

/// A Python that can import the package, if there is one.
pub fn find_python() -> Option<PathBuf> {
    let ours = root().join(".venv/bin/python");
    [ours, PathBuf::from("python3")].into_iter().find(|python| {
        let mut import = Command::new(python);
        let import = import.args(["-c", "import ringkv"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    })
}
