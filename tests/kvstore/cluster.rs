//! Nodes and a server as processes, which end with the values that stand for them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringkv::{ClientConfig, Ring};

use crate::build::{Executable, Program, Variant, root};
use crate::process::{PATIENCE, Process};
use crate::wire::{Kind, Request, unmark};

/// A program with both sanitizers, ready to get its arguments.
pub fn program(name: &str) -> Command {
    static BUILT: OnceLock<[(&str, Executable); 3]> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        ["server", "node", "client"].map(|name| {
            let folder = root().join("c_examples/kvstore");
            let program = Program::at(&folder.join(format!("{name}.c")));
            (name, program.with(&folder.join("kvstore.c")).compile(Variant::Sanitized))
        })
    });
    let (_, executable) = built.iter().find(|(of, _)| *of == name).expect("one of the three");
    let mut command = Command::new(executable.path());
    command.env("ASAN_OPTIONS", "detect_leaks=1").env_remove("KVSTORE_PORT").stdin(Stdio::null());
    command
}

/// Ports that nobody listened on a moment ago, nor on those where their nodes meet the ring. They
/// are below those that the system hands out for connections.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    [(); N].map(|()| {
        loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(37 * std::process::id());
            let port = 10_000 + u16::try_from(next % 10_000).expect("below 65536");
            let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
            if free(port) && free(ring_port(port)) {
                break port;
            }
        }
    })
}

/// Listens there, also where connections of another listener have ended a moment ago.
pub fn bind(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).expect("a free port")
}

/// Where a node of that port takes part in the ring.
fn ring_port(port: u16) -> u16 {
    if port > 55_535 { port - 10_000 } else { port + 10_000 }
}

/// A server with its nodes by name.
pub struct Cluster {
    pub server: Process,
    pub nodes: Vec<(String, Process)>,
    pub port: u16,
}

impl Cluster {
    /// A server that knows them from the start, and the old nodes of the list besides.
    pub fn of(port: u16, nodes: Vec<(String, Process)>, old: &[&str]) -> Cluster {
        let list: Vec<&str> = nodes.iter().map(|(name, _)| name.as_str()).collect();
        let server = start_server(port, &[&list, old].concat());
        Cluster { server, nodes, port }
    }

    /// Nodes that the server knows from the start.
    pub fn start(count: usize) -> Cluster {
        let ports: [u16; 4] = free_ports();
        let (port, ports) = ports.split_last().expect("four ports");
        let mut nodes = Vec::new();
        for node in &ports[..count] {
            nodes.push((format!("localhost:{node}"), start_node(*node, *port)));
        }
        let cluster = Cluster::of(*port, nodes, &[]);
        cluster.server.line("server: waiting for connections...");
        cluster
    }

    /// A server whose nodes do not run yet.
    pub fn without_nodes(port: u16, list: &[&str]) -> Cluster {
        Cluster { server: start_server(port, list), nodes: Vec::new(), port }
    }

    /// One more node, which stands by under the name that is returned.
    pub fn start_node(&mut self) -> String {
        let [port] = free_ports();
        self.start_node_at(port)
    }

    pub fn start_node_at(&mut self, port: u16) -> String {
        let name = format!("localhost:{port}");
        self.nodes.push((name.clone(), start_node(port, self.port)));
        name
    }

    /// What the client prints.
    pub fn client(&self, args: &[&str]) -> String {
        self.run_client(args, 0)
    }

    /// What the client prints about a failure.
    pub fn client_fails(&self, args: &[&str]) -> String {
        self.run_client(args, 1)
    }

    fn run_client(&self, args: &[&str], code: i32) -> String {
        client_of(self.port, args, code)
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.port)
    }

    /// All bytes of the reply.
    pub fn exchange(&self, request: &Request) -> Vec<u8> {
        exchange(self.port, request)
    }

    /// What an old client makes of the reply.
    pub fn ask_old(&self, request: &Request) -> Vec<u8> {
        ask_old(self.port, request)
    }

    pub fn ask_new(&self, request: &Request) -> (Kind, Vec<u8>) {
        unmark(&self.exchange(&request.marked()))
    }

    /// The ring of the nodes.
    pub fn ring(&self) -> Ring {
        let ring_address = |(name, _): &(String, Process)| {
            let port = name.rsplit(':').next().and_then(|port| port.parse().ok());
            format!("localhost:{}", ring_port(port.expect("a port")))
        };
        let seeds: Vec<String> = self.nodes.iter().map(ring_address).collect();
        Ring::connect(&seeds.join(","), ClientConfig::default()).expect("the nodes are a ring")
    }

    /// Ends every process; each must have been without a leak and without an error.
    pub fn end(mut self) {
        self.server.end();
        for (_, node) in &mut self.nodes {
            node.end();
        }
    }
}

/// What the client prints about the server at that port.
pub fn client_of(port: u16, args: &[&str], code: i32) -> String {
    let server = format!("localhost:{port}");
    let output: Output =
        program("client").arg(server).args(args).output().expect("the client starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(code), "{printed}{errors}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
    printed
}

/// Waits until somebody listens there.
pub fn connect(port: u16) -> TcpStream {
    let asked = Instant::now();
    loop {
        if let Ok(connection) = TcpStream::connect(("127.0.0.1", port)) {
            connection.set_read_timeout(Some(PATIENCE)).expect("a time limit");
            return connection;
        }
        assert!(asked.elapsed() < PATIENCE, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All bytes of the reply of whoever listens at that port.
pub fn exchange(port: u16, request: &Request) -> Vec<u8> {
    let mut connection = connect(port);
    for part in [&request.header(), &request.key, &request.value] {
        // The server may have refused it by now; what it said is still there to read.
        let _ = connection.write_all(part);
    }
    let mut reply = Vec::new();
    connection.read_to_end(&mut reply).expect("a reply");
    reply
}

/// What an old program makes of the reply: the text up to the first NUL.
pub fn ask_old(port: u16, request: &Request) -> Vec<u8> {
    let mut reply = exchange(port, request);
    let end = reply.iter().position(|byte| *byte == 0).expect("a terminated text");
    reply.truncate(end);
    reply
}

/// A server at that port, of these nodes.
pub fn start_server(port: u16, nodes: &[&str]) -> Process {
    let mut command = program("server");
    Process::start(
        command.env("KVSTORE_PORT", port.to_string()).arg(nodes.len().to_string()).args(nodes),
    )
}

/// A node that listens at that port, and which server it was told.
pub fn start_node(port: u16, server: u16) -> Process {
    let server = format!("localhost:{server}");
    let node = Process::start(program("node").args([&port.to_string(), &server]));
    node.line(&format!("NODE-{port} listening"));
    node
}
