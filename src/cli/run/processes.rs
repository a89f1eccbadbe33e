//! The node processes of the job. None outlives it: each ends with its standard input, which is a
//! pipe from us, so that even a killed job leaves none behind.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::output::{Failure, Outcome};
use crate::cli::signals::Interrupted;

/// A node of an empty ring listens at once; on a very busy machine a little later.
const START: Duration = Duration::from_secs(30);
/// How long a node may take to close in order before it is killed.
const STOP: Duration = Duration::from_secs(5);
const SLICE: Duration = Duration::from_millis(20);

/// The nodes by number, from 1 on.
pub struct Processes {
    program: Vec<OsString>,
    workers: usize,
    nodes: Vec<Process>,
}

struct Process {
    number: usize,
    address: String,
    child: Child,
}

impl Processes {
    /// None yet; they will be started by the program that we are.
    pub fn new(workers: usize) -> Outcome<Self> {
        let this = std::env::current_exe()
            .map_err(|error| Failure::io("cannot find the program of this process", &error))?;
        Ok(Self { program: program(&this), workers, nodes: Vec::new() })
    }

    /// Starts node `number`: 1 creates the ring, 2 and 3 join it, others stand by. Returns its
    /// address once it listens.
    pub fn start(&mut self, number: usize, interrupted: &Interrupted) -> Outcome<String> {
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .args(["node", "--json", "--until-stdin-ends", "--listen", "127.0.0.1:0"])
            .args(["--name", &format!("n{number}"), "--workers", &self.workers.to_string()]);
        match number {
            1 => {}
            2 | 3 => {
                command.args(["--join", &self.addresses()]);
            }
            _ => {
                command.arg("--standby");
            }
        }
        // Its own process group: Ctrl-C in a terminal is for us, and we end the nodes in order.
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::io(format!("cannot start node n{number}"), &error))?;
        // Owned from here on: whatever fails now, it is ended with the others.
        self.nodes.push(Process { number, address: String::new(), child });
        let node = self.nodes.last_mut().expect("it was pushed just now");
        node.address = address(node, interrupted)?;
        Ok(node.address.clone())
    }

    /// The addresses of all that run, with commas.
    pub fn addresses(&self) -> String {
        let all: Vec<&str> = self.nodes.iter().map(|node| node.address.as_str()).collect();
        all.join(",")
    }

    /// Ends one node in order, and tells if it did not end well.
    pub fn stop(&mut self, number: usize) -> Outcome<()> {
        let Some(at) = self.nodes.iter().position(|node| node.number == number) else {
            return Ok(());
        };
        let mut node = self.nodes.swap_remove(at);
        node.let_go();
        match node.wait() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::new(format!("node n{number} ended with {status}"))),
            None => Err(Failure::new(format!("node n{number} did not end and was killed"))),
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // All close side by side, then each is waited for.
        self.nodes.iter_mut().for_each(Process::let_go);
        for node in &mut self.nodes {
            node.wait();
        }
    }
}

impl Process {
    /// Ends its standard input, which is the sign to close.
    fn let_go(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end; kills it if that takes too long.
    fn wait(&mut self) -> Option<std::process::ExitStatus> {
        let asked = Instant::now();
        while asked.elapsed() < STOP {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => std::thread::sleep(SLICE),
                Err(_) => break,
            }
        }
        // It may have ended between the two looks; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

/// `ringkv`, or `python -m ringkv` if that is how we run.
fn program(this: &Path) -> Vec<OsString> {
    let is_python =
        this.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"python"));
    match is_python {
        true => vec![this.into(), "-m".into(), "ringkv".into()],
        false => vec![this.into()],
    }
}

/// What the node says about itself once it listens.
fn address(node: &mut Process, interrupted: &Interrupted) -> Outcome<String> {
    let number = node.number;
    let failed = || Failure::new(format!("node n{number} ended before it listened"));
    let stdout = node.child.stdout.take().ok_or_else(failed)?;
    let (sender, receiver) = channel();
    // Reads on its own thread, because a pipe cannot be read with a deadline. It goes on to the
    // end of the stream, so that the node never blocks on a full pipe.
    let reader = std::thread::Builder::new().name("ringkv-node-out".into()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens after the first line.
            let _ = sender.send(line);
        }
    });
    reader.map_err(|error| Failure::io("cannot start a thread", &error))?;
    let started = Instant::now();
    let line = loop {
        match receiver.recv_timeout(SLICE) {
            Ok(line) => break line,
            Err(RecvTimeoutError::Disconnected) => return Err(failed()),
            Err(RecvTimeoutError::Timeout) if interrupted.is_set() => {
                return Err(Failure::new("the job was not finished"));
            }
            Err(RecvTimeoutError::Timeout) if started.elapsed() > START => {
                return Err(Failure::new(format!("node n{number} does not come up")));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    let told: Value = serde_json::from_str(&line).map_err(|_| failed())?;
    told["address"].as_str().map(str::to_owned).ok_or_else(failed)
}
