//! A main server and its servers as processes, which end with the values that stand for them.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use ringkv::{ClientConfig, Ring};

use crate::build::{Executable, Program, Variant, root};
use crate::process::{PATIENCE, Process};

/// The ring's node of a port listens that much above it.
pub const RING_DISTANCE: u16 = 10_000;

pub fn source(name: &str) -> Program {
    let folder = root().join("c_examples/tracker");
    let program = Program::at(&folder.join(format!("{name}.c")));
    program.with(&folder.join("tracker.c")).with(&folder.join("table.c"))
}

/// A program with both sanitizers, ready to get its arguments.
pub fn program(name: &str) -> Command {
    static BUILT: OnceLock<[(&str, Executable); 3]> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        ["mainServer", "server", "client"]
            .map(|name| (name, source(name).compile(Variant::Sanitized)))
    });
    let (_, executable) = built.iter().find(|(of, _)| *of == name).expect("one of the three");
    let mut command = Command::new(executable.path());
    command.env("ASAN_OPTIONS", "detect_leaks=1").env_remove("TRACKER_PORT").stdin(Stdio::null());
    command
}

/// Ports in a row for a main server and its servers, and those of the ring above them: all below
/// those that the system hands out.
pub struct Ports {
    pub first: u16,
    /// Tells other test runs that the row is taken.
    _held: TcpListener,
}

impl Ports {
    const ROW: u16 = 32;
    const LOWEST: u16 = 11_008;
    const ROWS: u16 = 310;

    pub fn claim() -> Ports {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = u16::try_from(std::process::id() % 97).expect("small") * 31;
        for _ in 0..Self::ROWS {
            let row = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % Self::ROWS;
            let first = Self::LOWEST + row * Self::ROW;
            let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
            let ports = first..first + Self::ROW - 1;
            let Ok(held) = bind(first + Self::ROW - 1) else { continue };
            if ports.clone().chain(ports.map(|port| port + RING_DISTANCE)).all(|p| bind(p).is_ok())
            {
                return Ports { first, _held: held };
            }
        }
        panic!("no row of free ports");
    }
}

/// A main server with its servers by their first port.
pub struct Tracker {
    pub port: u16,
    pub main: Process,
    pub servers: Vec<(u16, Process)>,
    _ports: Ports,
}

impl Tracker {
    /// Without any server.
    pub fn start() -> Tracker {
        let ports = Ports::claim();
        let main = start("mainServer", ports.first, &[]);
        let asked = Instant::now();
        while TcpStream::connect(("127.0.0.1", ports.first)).is_err() {
            assert!(asked.elapsed() < PATIENCE, "it does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Tracker { port: ports.first, main, servers: Vec::new(), _ports: ports }
    }

    /// With that many servers, each a process of its own.
    pub fn start_with(count: u16) -> Tracker {
        let mut tracker = Tracker::start();
        for at in 0..count {
            tracker.add_server(tracker.port + 2 + at);
        }
        for at in 0..count {
            tracker.added(tracker.port + 2 + at);
        }
        tracker
    }

    pub fn add_server(&mut self, port: u16) {
        let server = start("server", self.port, &["add_server", &port.to_string()]);
        self.servers.push((port, server));
    }

    /// Several servers in one process, as `./server` starts them.
    pub fn start_servers(&mut self, args: &[&str]) -> &Process {
        self.servers.push((self.port + 2, start("server", self.port, args)));
        &self.servers.last().expect("just pushed").1
    }

    pub fn restart_main(&mut self) {
        self.main = start("mainServer", self.port, &[]);
    }

    pub fn added(&self, port: u16) {
        self.main.line(&format!("SERVER <127.0.0.1:{port}> ADDED"));
    }

    pub fn kill_server(&mut self, port: u16) {
        let at = self.servers.iter().position(|(of, _)| *of == port).expect("it runs");
        self.servers.remove(at).1.kill();
    }

    /// What the client prints, and its exit status.
    pub fn client(&self, args: &[&str]) -> (String, i32) {
        run_client(self.port, args)
    }

    /// What the client prints when it succeeds.
    pub fn done(&self, args: &[&str]) -> String {
        let (printed, status) = self.client(args);
        assert_eq!(status, 0, "{args:?}: {printed}\n{}", self.main.lines().join("\n"));
        printed
    }

    /// The ring as another program sees it through one of its members.
    pub fn ring(&self, port: u16) -> Ring {
        let address = format!("127.0.0.1:{}", port + RING_DISTANCE);
        Ring::connect(&address, ClientConfig::default()).expect("the ring answers")
    }

    /// Ends every process; each must have been without a leak and without an error.
    pub fn end(mut self) {
        self.main.end();
        // All at once, as Ctrl-C in one terminal does.
        for (_, server) in &self.servers {
            server.ask_to_end("-INT");
        }
        for (_, server) in &mut self.servers {
            server.wait();
        }
    }
}

/// What the client prints on both streams, and its exit status.
pub fn run_client(tracker: u16, args: &[&str]) -> (String, i32) {
    let output: Output = program("client")
        .env("TRACKER_PORT", tracker.to_string())
        .args(args)
        .output()
        .expect("the client starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status.code().expect("it is not ended by a signal");
    (text(&output.stdout) + &text(&output.stderr), status)
}

/// One of the two that run on, for the main server at that port.
fn start(name: &str, tracker: u16, args: &[&str]) -> Process {
    Process::start(program(name).env("TRACKER_PORT", tracker.to_string()).args(args))
}
