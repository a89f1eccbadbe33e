//! What lies between the nodes: the loopback device, or cables that can be cut.
//!
//! With namespaces (root on Linux) each node has a network of its own and a cable to a router,
//! which has one to us as well. A cable is cut by taking the router's end down; one direction
//! between two nodes by a routing rule of the router that swallows those packets silently; loss
//! comes from nft, a slow link from the queue discipline tbf. What the machine lacks is left out,
//! and said.

use std::path::Path;
use std::process::{Command, Stdio};

/// Between the nodes, by their index.
pub struct Network {
    namespaces: Option<Namespaces>,
    ports: Vec<u16>,
    /// What this machine cannot do, in words.
    pub left_out: Vec<String>,
}

struct Namespaces {
    prefix: String,
    /// The second byte of all addresses, so that two runs do not meet.
    net: u32,
    nodes: usize,
    has_loss: bool,
    has_slow: bool,
}

impl Network {
    /// All nodes on the loopback device.
    pub fn loopback(nodes: usize) -> Network {
        let left_out = vec!["cables: not in this mode".to_owned()];
        Network { namespaces: None, ports: free_ports(nodes), left_out }
    }

    /// Each node in a namespace of its own, if this machine can; else as `loopback`.
    pub fn with_cables(prefix: &str, nodes: usize) -> Network {
        let test = format!("{prefix}-test");
        if !ip(&["netns", "add", &test]) {
            let mut network = Network::loopback(nodes);
            network.left_out = vec!["cables: not root, or no network namespaces".into()];
            return network;
        }
        let queue = ["-n", &test, "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit"];
        let queue = [&queue[..], &["burst", "16kb", "latency", "100ms"]].concat();
        let lo_up = ip(&["-n", &test, "link", "set", "lo", "up"]);
        let has_slow = lo_up && run("tc", &queue);
        let mut namespaces = Namespaces {
            prefix: prefix.into(),
            net: 128 + std::process::id() % 100,
            nodes,
            has_loss: false,
            has_slow,
        };
        ip(&["netns", "del", &test]);
        namespaces.build();
        namespaces.has_loss = namespaces.prepare_loss();
        let mut left_out = vec!["delay: netem is not used".to_owned()];
        if !namespaces.has_loss {
            left_out.push("random loss: nft is missing".into());
        }
        if !namespaces.has_slow {
            left_out.push("slow links: the queue discipline tbf is missing".into());
        }
        Network { namespaces: Some(namespaces), ports: vec![7400; nodes], left_out }
    }

    /// Where a node listens.
    pub fn address(&self, node: usize) -> String {
        let port = self.ports[node];
        match &self.namespaces {
            Some(namespaces) => format!("{}:{port}", namespaces.host(node)),
            None => format!("127.0.0.1:{port}"),
        }
    }

    /// A command that runs where the node is. It becomes the program: its process id stays.
    pub fn command(&self, node: usize, program: &Path) -> Command {
        match &self.namespaces {
            Some(namespaces) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespaces.of(node)]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Nobody reaches the node, and it nobody. Returns false if cables cannot be cut here, as the
    /// following do.
    pub fn cut(&self, node: usize) -> bool {
        self.with(|n| ip(&["-n", &n.router(), "link", "set", &format!("n{node}"), "down"]))
    }

    /// Clients reach the node, but it reaches no other node and no other reaches it.
    pub fn cut_from_peers(&self, node: usize) -> bool {
        self.with(|n| {
            let others = (0..n.nodes).filter(|other| *other != node);
            others.fold(true, |done, other| done & n.swallow(node, other) & n.swallow(other, node))
        })
    }

    /// What `from` sends to `to` is swallowed.
    pub fn cut_one_way(&self, from: usize, to: usize) -> bool {
        self.with(|n| n.swallow(from, to))
    }

    /// Of all packets from and to the node, so many in a hundred are lost.
    pub fn lose(&self, node: usize, percent: u64) -> bool {
        self.with(|n| {
            let host = n.host(node);
            let rule = |way: &str| {
                let dice = format!("numgen random mod 100 < {percent} drop");
                n.nft(&format!("add rule ip chaos forward ip {way} {host} {dice}"))
            };
            n.has_loss && rule("saddr") && rule("daddr")
        })
    }

    /// The node's cable carries so many kilobits a second, both ways.
    pub fn slow(&self, node: usize, kbit: u64) -> bool {
        self.with(|n| {
            let rate = format!("{kbit}kbit");
            let queue = |namespace: &str, device: &str| {
                let place = ["-n", namespace, "qdisc", "add", "dev", device, "root"];
                let kind = ["tbf", "rate", &rate, "burst", "32kb", "latency", "300ms"];
                run("tc", &[&place[..], &kind].concat())
            };
            n.has_slow && queue(&n.router(), &format!("n{node}")) && queue(&n.of(node), "eth0")
        })
    }

    /// Mends everything.
    pub fn heal(&self) {
        self.with(|n| {
            let router = n.router();
            while ip(&["-n", &router, "rule", "del", "priority", RULES]) {}
            for node in 0..n.nodes {
                let device = format!("n{node}");
                ip(&["-n", &router, "link", "set", &device, "up"]);
                run("tc", &["-n", &router, "qdisc", "del", "dev", &device, "root"]);
                run("tc", &["-n", &n.of(node), "qdisc", "del", "dev", "eth0", "root"]);
            }
            n.has_loss && n.nft("flush chain ip chaos forward")
        });
    }

    fn with(&self, act: impl FnOnce(&Namespaces) -> bool) -> bool {
        self.namespaces.as_ref().is_some_and(act)
    }
}

/// The priority of our routing rules, before the ones that are always there.
const RULES: &str = "100";

impl Namespaces {
    fn router(&self) -> String {
        format!("{}-router", self.prefix)
    }

    fn of(&self, node: usize) -> String {
        format!("{}-n{node}", self.prefix)
    }

    /// The address at the other end of cable `at`.
    fn host(&self, at: usize) -> String {
        format!("10.{}.{at}.2", self.net)
    }

    /// The router, the nodes' networks, and a cable from the router to each and to us.
    fn build(&self) {
        let router = self.router();
        must(&["netns", "add", &router]);
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        must(&["netns", "exec", &router, "sh", "-c", forward]);
        for node in 0..self.nodes {
            let name = self.of(node);
            must(&["netns", "add", &name]);
            must(&["-n", &name, "link", "set", "lo", "up"]);
            let (near, far) = (format!("n{node}"), "eth0");
            let cable = ["link", "add", &near, "netns", &router, "type", "veth", "peer", "name"];
            must(&[&cable[..], &[far, "netns", &name]].concat());
            self.connect(node, &near, &["-n", &name], far, "default");
        }
        let ours = format!("{}-us", self.prefix);
        let cable = ["link", "add", "us", "netns", &router, "type", "veth", "peer", "name", &ours];
        must(&cable);
        self.connect(self.nodes, "us", &[], &ours, &format!("10.{}.0.0/16", self.net));
    }

    /// Addresses and routes of both ends of cable `at`.
    fn connect(&self, at: usize, near: &str, there: &[&str], far: &str, reach: &str) {
        let router = self.router();
        let (here, net) = (["-n", &router[..]], self.net);
        let gateway = format!("10.{net}.{at}.1");
        let [near_address, far_address] = [1, 2].map(|end| format!("10.{net}.{at}.{end}/24"));
        must(&[&here[..], &["addr", "add", &near_address, "dev", near]].concat());
        must(&[&here[..], &["link", "set", near, "up"]].concat());
        must(&[there, &["addr", "add", &far_address, "dev", far]].concat());
        must(&[there, &["link", "set", far, "up"]].concat());
        must(&[there, &["route", "add", reach, "via", &gateway]].concat());
    }

    fn swallow(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.host(from), self.host(to));
        let router = self.router();
        let rule = ["-n", &router, "rule", "add", "from", &from, "to", &to];
        ip(&[&rule[..], &["blackhole", "priority", RULES]].concat())
    }

    fn prepare_loss(&self) -> bool {
        self.nft("add table ip chaos")
            && self.nft("add chain ip chaos forward { type filter hook forward priority 0 ; }")
    }

    fn nft(&self, command: &str) -> bool {
        run("ip", &["netns", "exec", &self.router(), "nft", command])
    }
}

fn ip(arguments: &[&str]) -> bool {
    run("ip", arguments)
}

fn must(arguments: &[&str]) {
    assert!(ip(arguments), "ip {arguments:?}");
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Ports that nobody listens on, below those that the system gives to outgoing connections: a node
/// that was killed finds its own still free when it comes back.
fn free_ports(count: usize) -> Vec<u16> {
    let begin = 20_000 + (std::process::id() % 1000) as u16 * 10;
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (begin..32_000).filter(free).take(count).collect()
}
