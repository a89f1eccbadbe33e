//! The node processes, and the ring as its members see it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringkv::net::sys::boottime;
use ringkv::ring::MemberState;
use ringkv::{ChangeOptions, ClientConfig, ReadOptions, Ring, RingInfo};

use crate::executor::Contact;
use crate::janitor::Janitor;
use crate::network::Network;
use crate::settings::Settings;

/// How long the ring may take to be whole again after everything was mended.
const SETTLE: Duration = Duration::from_secs(90);
/// How often one looks whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What `ringkv node` ends with when it is refused, as a node whose old self is still known may be.
const REFUSED: i32 = 2;

/// The name of the program that the nodes run, beside their logs.
const PROGRAM: &str = "ringkv";
/// What a node logs when it becomes the leader of the coordinator's group.
const LEADS: &str = "leads the coordinator now";

/// A ring of processes. The last node is a spare one: it stands by until it is added.
pub struct Cluster {
    pub network: Network,
    pub admin: Ring,
    nodes: Vec<Node>,
    janitor: Janitor,
    log: PathBuf,
    leader: Leader,
    /// What must not happen to a process, and did.
    pub findings: Vec<String>,
}

struct Node {
    process: Option<Child>,
    place: Place,
}

/// Who leads the coordinator's group, by what the nodes have logged.
#[derive(Default)]
struct Leader {
    /// How much of each node's log was read.
    read: BTreeMap<usize, u64>,
    last: Option<usize>,
}

/// Where a node should be when the ring is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Member,
    StandsBy,
    /// It depends on when what hit whom.
    Either,
}

impl Place {
    pub fn of(is_member: bool) -> Place {
        if is_member { Place::Member } else { Place::StandsBy }
    }
}

impl Cluster {
    /// Starts the ring and waits until all copies are made.
    pub fn start(settings: &Settings, network: Network, janitor: &Janitor) -> Cluster {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", settings.seed));
        let _ = std::fs::remove_dir_all(&log);
        std::fs::create_dir_all(&log).expect("cargo's folder for tests can be written");
        // A copy, so that all nodes of a long run are the same program whatever is built meanwhile.
        std::fs::copy(env!("CARGO_BIN_EXE_ringkv"), log.join(PROGRAM)).expect("and has room");
        let mut nodes = Vec::new();
        nodes.resize_with(settings.nodes + 1, || Node { process: None, place: Place::Member });
        nodes[settings.nodes].place = Place::StandsBy;
        let partitions = settings.partitions.to_string();
        let create = ["--partitions", &partitions, "--copies", "3", "--min-insync", "2"];
        nodes[0].process = Some(spawn(&network, &log, janitor, 0, &create));
        wait_for_listener(&network.address(0));
        let timeout = settings.timeout;
        let admin = Contact { seeds: network.address(0), timeout }.ring();
        let janitor = janitor.clone();
        let (leader, findings) = (Leader::default(), Vec::new());
        let mut cluster = Cluster { network, admin, nodes, janitor, log, leader, findings };
        for node in 1..=settings.nodes {
            cluster.launch(node);
        }
        cluster.settle().expect("a ring without faults settles");
        // With all members as seeds, the one it began with is no longer needed.
        let contact = Contact { seeds: cluster.seeds(), timeout };
        cluster.admin = contact.ring();
        cluster
    }

    /// Every node that can be a member, with commas.
    pub fn seeds(&self) -> String {
        let all: Vec<String> = (0..self.nodes.len()).map(|n| self.network.address(n)).collect();
        all.join(",")
    }

    pub fn spare(&self) -> usize {
        self.nodes.len() - 1
    }

    /// The nodes that are members now.
    pub fn members(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].place == Place::Member).collect()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// As a crash does. Returns the time after it.
    pub fn kill(&mut self, node: usize) -> u64 {
        self.end(node, "-KILL")
    }

    /// As a service manager does: the process ends in order, without leaving the ring.
    pub fn terminate(&mut self, node: usize) -> u64 {
        self.end(node, "-TERM")
    }

    fn end(&mut self, node: usize, signal: &str) -> u64 {
        let Some(mut process) = self.nodes[node].process.take() else { return boottime().0 };
        send(&process, signal);
        let at = boottime().0;
        process.wait().expect("a child can be waited for");
        self.janitor.gone(&process);
        at
    }

    /// Stops the process, or lets it go on. Returns the time after it.
    pub fn pause(&self, node: usize, stop: bool) -> u64 {
        if let Some(process) = &self.nodes[node].process {
            send(process, if stop { "-STOP" } else { "-CONT" });
        }
        boottime().0
    }

    /// Starts a node that is not running: one that stood by does so again, any other joins anew
    /// under its old name and address.
    pub fn launch(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let others: Vec<String> = others.map(|other| self.network.address(other)).collect();
        let join = ["--join", &others.join(","), "--start-timeout", "60s"];
        let stands_by = self.nodes[node].place == Place::StandsBy;
        let how: &[&str] = if stands_by { &["--standby"] } else { &join };
        let process = spawn(&self.network, &self.log, &self.janitor, node, how);
        self.nodes[node].process = Some(process);
    }

    /// From now on it is expected there.
    pub fn expect(&mut self, node: usize, place: Place) {
        self.nodes[node].place = place;
    }

    /// Whether the ring has it as a member.
    pub fn is_member(&self, node: usize) -> bool {
        let name = name(node);
        let info = self.admin.info();
        info.is_ok_and(|info| info.members.iter().any(|member| member.node.name == name))
    }

    /// Adds a node that stands by, from a thread of its own.
    pub fn add(&self, node: usize) -> std::thread::JoinHandle<ringkv::Result<()>> {
        let (admin, address) = (self.admin.clone(), self.network.address(node));
        wait_for_listener(&address);
        std::thread::spawn(move || admin.add_node(&address, patient()))
    }

    /// Drops a member, from a thread of its own.
    pub fn drop_member(&self, node: usize) -> std::thread::JoinHandle<ringkv::Result<()>> {
        let (admin, name) = (self.admin.clone(), name(node));
        std::thread::spawn(move || admin.drop_node(&name, patient()).map(|_| ()))
    }

    /// The nodes that hold the key, the primary first.
    pub fn holders(&self, key: &str) -> Vec<usize> {
        let location = self.admin.locate(key.as_bytes(), &ReadOptions::default());
        let holders = location.map(|location| location.holders).unwrap_or_default();
        holders.iter().filter_map(|node| index(&node.name)).collect()
    }

    /// The nodes of the coordinator's group.
    pub fn voters(&self) -> Vec<usize> {
        let info = self.admin.info().expect("the ring is whole");
        let voters = info.members.iter().filter(|member| member.coordinator);
        voters.filter_map(|member| index(&member.node.name)).collect()
    }

    /// The node that leads the coordinator's group.
    pub fn leader(&mut self) -> Option<usize> {
        self.look_for_leader();
        self.leader.last.filter(|node| self.nodes[*node].place == Place::Member)
    }

    /// Reads what the logs say anew. Called so often that the order of the nodes hardly matters.
    fn look_for_leader(&mut self) {
        for node in 0..self.nodes.len() {
            let read = self.leader.read.entry(node).or_default();
            let mut text = String::new();
            let file = File::open(self.log.join(format!("{}.err", name(node))));
            let Ok(mut file) = file else { continue };
            let sought = file.seek(SeekFrom::Start(*read));
            if sought.is_ok() && file.read_to_string(&mut text).is_ok() {
                *read += text.len() as u64;
            }
            if text.contains(LEADS) {
                self.leader.last = Some(node);
            }
        }
    }

    /// Restarts what ended and waits until the ring is what it should be: all members up, all
    /// copies in sync, nothing moving. Returns how long that took.
    pub fn settle(&mut self) -> Result<Duration, String> {
        let begun = Instant::now();
        let mut wrong = String::new();
        while begun.elapsed() < SETTLE {
            self.revive();
            self.look_for_leader();
            wrong = match self.admin.info() {
                Ok(info) => match self.what_is_wrong(&info).or_else(|| self.who_disagrees(&info)) {
                    None => return Ok(begun.elapsed()),
                    Some(wrong) => wrong,
                },
                Err(error) => error.to_string(),
            };
            std::thread::sleep(LOOK_EVERY);
        }
        let health = self.admin.health().map(|health| health.reasons.join("; "));
        Err(format!("not settled after {SETTLE:?}: {wrong}; health: {health:?}"))
    }

    fn what_is_wrong(&self, info: &RingInfo) -> Option<String> {
        for node in 0..self.nodes.len() {
            let member = info.members.iter().find(|member| member.node.name == name(node));
            let place = self.nodes[node].place;
            match member {
                Some(member) if place == Place::StandsBy => {
                    return Some(format!("{} is still a member", member.node.name));
                }
                Some(member) if member.state != MemberState::Up || !member.reachable => {
                    let (name, reached) = (&member.node.name, member.reachable);
                    return Some(format!("{name} is {:?}, reachable: {reached}", member.state));
                }
                None if place == Place::Member => {
                    return Some(format!("{} is not a member", name(node)));
                }
                _ => {}
            }
        }
        let moving = info.moving.map(|moving| format!("moving: {moving:?}"));
        let lacking = || (info.under_replicated > 0).then(|| format!("{info:?}"));
        let lost = || (info.lost > 0).then(|| format!("{} partitions are lost", info.lost));
        moving.or_else(lacking).or_else(lost)
    }

    /// Each member is asked itself. The ring may still hold a node for the one that was just killed
    /// there, whose next life answers at the same address and belongs to no ring yet.
    fn who_disagrees(&self, info: &RingInfo) -> Option<String> {
        let timeout = Duration::from_secs(1);
        info.members.iter().find_map(|member| {
            let own = Ring::connect(&member.node.addr, ClientConfig { timeout });
            match own.and_then(|own| own.info()) {
                Ok(own) if own.version == info.version => None,
                Ok(own) => Some(format!("{} has version {}", member.node.name, own.version)),
                Err(error) => Some(format!("{}: {error}", member.node.name)),
            }
        })
    }

    /// Starts again what should run and does not. Nobody ends by itself, except who is refused.
    fn revive(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(process) = &mut self.nodes[node].process else {
                self.launch(node);
                continue;
            };
            if let Some(status) = process.try_wait().expect("a child can be asked") {
                self.janitor.gone(process);
                self.nodes[node].process = None;
                if status.code() != Some(REFUSED) {
                    self.findings.push(format!("{} ended by itself: {status}", name(node)));
                }
            }
        }
    }
}

fn name(node: usize) -> String {
    format!("n{node}")
}

fn index(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse().ok()
}

fn patient() -> ChangeOptions<'static> {
    ChangeOptions { timeout: SETTLE, ..ChangeOptions::default() }
}

fn send(process: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.id().to_string()]).status();
    assert!(sent.expect("kill is there").success(), "{signal} {}", process.id());
}

fn spawn(network: &Network, log: &Path, janitor: &Janitor, node: usize, how: &[&str]) -> Child {
    let file = |kind: &str| -> File {
        let path = log.join(format!("{}.{kind}", name(node)));
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.expect("the folder of the logs can be written")
    };
    let mut command = network.command(node, &log.join(PROGRAM));
    command.args(["node", "--until-stdin-ends", "--accept-public", "--name", &name(node)]);
    command.args(["--listen", &network.address(node)]).args(how).env_remove("RINGKV_RING");
    command.args(["--log", "info"]);
    command.stdin(Stdio::piped()).stdout(file("out")).stderr(file("err"));
    // Its own process group: Ctrl-C in a terminal is for the test, whose janitor then cleans up.
    let process = command.process_group(0).spawn().expect("the node starts");
    janitor.born(&process);
    process
}

fn wait_for_listener(address: &str) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < SETTLE, "nobody listens on {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
