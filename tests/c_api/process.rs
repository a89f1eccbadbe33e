//! C programs that run while a test talks to them.

#![allow(dead_code, reason = "each of the tests that share it uses a part of it")]

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Much longer than anything here takes, so that only what hangs meets it.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A process whose output is read all the time.
pub struct Process {
    child: Child,
    printed: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Process {
    pub fn start(command: &mut Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let printed: Arc<(Mutex<Vec<String>>, Condvar)> = Arc::default();
        let shared = Arc::clone(&printed);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                shared.0.lock().expect("no panic").push(line);
                shared.1.notify_all();
            }
        });
        Process { child, printed }
    }

    /// Waits for a line that begins like that, and returns it.
    pub fn line(&self, begin: &str) -> String {
        self.nth_line(begin, 1)
    }

    /// Waits until that many lines have begun like that, and returns the last.
    pub fn nth_line(&self, begin: &str, count: usize) -> String {
        let lines = self.printed.0.lock().expect("no panic");
        let found = |lines: &[String]| {
            lines.iter().filter(|line| line.starts_with(begin)).nth(count - 1).cloned()
        };
        let missing = |lines: &mut Vec<String>| found(lines).is_none();
        let waited = self.printed.1.wait_timeout_while(lines, PATIENCE, missing);
        let (lines, _) = waited.expect("no panic");
        found(&lines).unwrap_or_else(|| panic!("no line '{begin}' in\n{}", lines.join("\n")))
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.printed.0.lock().expect("no panic").clone()
    }

    /// As a crash does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    pub fn ask_to_end(&self, signal: &str) {
        let pid = self.child.id().to_string();
        // It may have ended by itself.
        let _ = Command::new("kill").args([signal, &pid]).stderr(Stdio::null()).status();
    }

    pub fn end(&mut self) {
        self.ask_to_end("-TERM");
        self.wait();
    }

    /// It must end, and without an error.
    pub fn wait(&mut self) {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return assert!(status.success(), "{status}: {}", self.lines().join("\n"));
            }
            assert!(asked.elapsed() < PATIENCE, "the program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Those who say nothing are still connected, and are let go in the end.
pub fn are_let_go(silent: &mut [TcpStream]) {
    for connection in &mut *silent {
        connection.set_nonblocking(true).expect("a socket option");
        let tried = connection.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(tried, Err(ErrorKind::WouldBlock));
        connection.set_nonblocking(false).expect("a socket option");
    }
    for connection in silent {
        connection.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        // Whatever interrupts it, it goes on reading.
        assert_eq!(connection.read_to_end(&mut Vec::new()).expect("it hangs up"), 0);
    }
}
