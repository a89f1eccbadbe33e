//! The network floor against real sockets: a loop on a thread of its own, and plain std sockets or
//! a second loop on the other side.

#[cfg(test)]
mod lanes;
#[cfg(test)]
mod links;
#[cfg(test)]
mod loops;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;
use crate::base::Error;

/// Long enough that only a hang takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a loop reported.
#[derive(Debug)]
enum Event {
    Accepted(Arc<Link>),
    Closed(CloseReason),
    Drained,
    Connected(DialId, Arc<Link>),
    Failed(DialId, Error),
    Woken,
}

type Command = Box<dyn FnOnce(&mut Context) + Send>;
type OnFrame = Box<dyn FnMut(&mut Context, &Arc<Link>, &[u8]) -> Flow + Send>;

/// A handler that reports everything, does what `on_frame` says, and runs commands when woken.
struct Probe {
    events: Sender<Event>,
    commands: Receiver<Command>,
    detached: Option<Sender<Detached>>,
    options: ConnectionOptions,
    on_frame: OnFrame,
}

impl Probe {
    fn report(&self, event: Event) {
        // A test that has seen enough drops its end.
        let _ = self.events.send(event);
    }
}

impl Handler for Probe {
    fn on_accept(&mut self, ctx: &mut Context, _: ListenerId, socket: Socket) {
        let link = ctx.add(socket, self.options).unwrap();
        self.report(Event::Accepted(link));
    }

    fn on_frame(&mut self, ctx: &mut Context, link: &Arc<Link>, frame: &[u8]) -> Flow {
        (self.on_frame)(ctx, link, frame)
    }

    fn on_closed(&mut self, _: &mut Context, link: &Arc<Link>, reason: CloseReason) {
        assert!(link.is_closed());
        assert!(link.push(|_| ()).is_err());
        self.report(Event::Closed(reason));
    }

    fn on_detached(&mut self, _: &mut Context, detached: Detached) {
        self.detached.as_ref().unwrap().send(detached).unwrap();
    }

    fn on_connected(&mut self, ctx: &mut Context, dial: DialId, socket: Socket) {
        let link = ctx.add(socket, self.options).unwrap();
        self.report(Event::Connected(dial, link));
    }

    fn on_connect_failed(&mut self, _: &mut Context, dial: DialId, error: Error) {
        self.report(Event::Failed(dial, error));
    }

    fn on_drained(&mut self, _: &mut Context, _: &Arc<Link>) {
        self.report(Event::Drained);
    }

    fn on_wake(&mut self, ctx: &mut Context) {
        while let Ok(command) = self.commands.try_recv() {
            command(ctx);
        }
        self.report(Event::Woken);
    }
}

/// A loop that runs on its own thread until this is dropped.
struct Running {
    address: Address,
    events: Receiver<Event>,
    commands: Sender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(address: &str, options: ConnectionOptions, on_frame: OnFrame) -> Self {
        Self::start_with(address, options, on_frame, None)
    }

    fn start_with(
        address: &str,
        options: ConnectionOptions,
        on_frame: OnFrame,
        detached: Option<Sender<Detached>>,
    ) -> Self {
        let (event_sender, events) = channel();
        let (commands, command_receiver) = channel();
        let mut reactor = Reactor::new(ReactorOptions::default()).unwrap();
        let listener = Listener::bind(&address.parse().unwrap(), Budget::new(1000)).unwrap();
        let address = listener.address().clone();
        reactor.context().listen(listener).unwrap();
        let waker = reactor.waker();
        let mut probe =
            Probe { events: event_sender, commands: command_receiver, detached, options, on_frame };
        let thread = sys::spawn("net-test", move || reactor.run(&mut probe).unwrap()).unwrap();
        Self { address, events, commands, waker, thread: Some(thread) }
    }

    /// Runs something on the loop's thread.
    fn command(&self, command: impl FnOnce(&mut Context) + Send + 'static) {
        self.commands.send(Box::new(command)).unwrap();
        self.waker.wake();
    }

    /// The first event that `pick` takes; others before it are dropped.
    fn expect<T>(&self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            let event = self.events.recv_timeout(PATIENCE).expect("the event comes");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    fn expect_accepted(&self) -> Arc<Link> {
        self.expect(|event| match event {
            Event::Accepted(link) => Some(link),
            _ => None,
        })
    }

    fn expect_closed(&self) -> CloseReason {
        self.expect(|event| match event {
            Event::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    fn connect(&self) -> Box<dyn Stream> {
        connect(&self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.command(|ctx| ctx.stop());
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// A blocking std stream of either kind.
trait Stream: Read + Write + Send {
    fn duplicate(&self) -> Box<dyn Stream>;
    fn shut_down_write(&self);
}

impl Stream for TcpStream {
    fn duplicate(&self) -> Box<dyn Stream> {
        Box::new(self.try_clone().unwrap())
    }
    fn shut_down_write(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn duplicate(&self) -> Box<dyn Stream> {
        Box::new(self.try_clone().unwrap())
    }
    fn shut_down_write(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

fn connect(address: &Address) -> Box<dyn Stream> {
    match address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(stream)
        }
    }
}

const TCP: &str = "127.0.0.1:0";

fn unix() -> String {
    let name = format!("ringkv-net-{:016x}.sock", sys::random_u64());
    format!("unix:{}", std::env::temp_dir().join(name).display())
}

fn open_options() -> ConnectionOptions {
    ConnectionOptions { frame_max: 1 << 20, ..ConnectionOptions::default() }
}

/// Answers each frame with itself.
fn echo() -> OnFrame {
    Box::new(|ctx, link, frame| {
        let _ = link.push_frame(|buffer| buffer.extend_from_slice(frame));
        ctx.flush_at_turn_end(link);
        Flow::Continue
    })
}

fn encode(payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn read_frame(stream: &mut (impl Read + ?Sized)) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut payload = vec![0; u32::from_le_bytes(header) as usize];
    stream.read_exact(&mut payload).unwrap();
    payload
}

/// Payloads of many sizes, each beginning with its number.
fn numbered_payloads(count: u32, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = crate::base::Rng::new(seed);
    (0..count)
        .map(|number| {
            let length = if rng.chance(3) { 200_000 } else { rng.below(300) as usize };
            let mut payload = number.to_le_bytes().to_vec();
            payload.resize(4 + length, number as u8);
            payload
        })
        .collect()
}
