//! The event loop: reading, closing, pausing, moving, dialling, waking.

use super::*;
use crate::base::{Nanos, Rng, Status};
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn thousands_of_pipelined_frames_split_at_random_places_come_back_in_order() {
    for (address, seed) in [(TCP.to_owned(), 1), (unix(), 2)] {
        let server = Running::start(&address, open_options(), echo());
        let payloads = numbered_payloads(5000, seed);
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| encode(payload)).collect();
        let mut stream = server.connect();
        let mut writer = stream.duplicate();
        let sender = std::thread::spawn(move || {
            let mut rng = Rng::new(seed);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let length = rest.len().min(1 + rng.below(20_000) as usize);
                writer.write_all(&rest[..length]).unwrap();
                rest = &rest[length..];
            }
        });
        for payload in &payloads {
            assert_eq!(read_frame(&mut *stream), *payload);
        }
        sender.join().unwrap();
        drop(stream);
        assert_eq!(server.expect_closed(), CloseReason::Eof);
    }
}

#[test]
fn the_listeners_port_is_the_one_that_the_system_chose() {
    let server = Running::start("localhost:0", open_options(), echo());
    let Address::Tcp { host, port } = &server.address else { panic!("TCP") };
    assert_eq!(host, "localhost");
    assert_ne!(*port, 0);
}

#[test]
fn an_oversize_frame_closes_the_connection_after_the_frames_before_it() {
    let options = ConnectionOptions { frame_max: 10, ..open_options() };
    let server = Running::start(TCP, options, echo());
    let mut stream = server.connect();
    let mut bytes = encode(b"0123456789");
    bytes.extend_from_slice(&11u32.to_le_bytes());
    stream.write_all(&bytes).unwrap();
    assert_eq!(read_frame(&mut *stream), b"0123456789");
    let refused = FrameTooLarge { claimed: 11, allowed: 10 };
    assert_eq!(server.expect_closed(), CloseReason::FrameTooLarge(refused));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_frame_limit_can_change_between_two_frames_of_one_read() {
    let options = ConnectionOptions { frame_max: 5, ..open_options() };
    let on_frame: OnFrame = Box::new(|ctx, link, frame| {
        ctx.set_frame_max(link.id(), 100);
        let _ = link.push_frame(|buffer| buffer.extend_from_slice(frame));
        link.flush();
        Flow::Continue
    });
    let server = Running::start(TCP, options, on_frame);
    let mut stream = server.connect();
    let bytes = [encode(b"hello"), encode(&[7; 100])].concat();
    stream.write_all(&bytes).unwrap();
    assert_eq!(read_frame(&mut *stream), b"hello");
    assert_eq!(read_frame(&mut *stream), [7; 100]);
}

#[test]
fn a_client_that_ended_its_requests_still_gets_the_answers() {
    for address in [TCP.to_owned(), unix()] {
        let server = Running::start(&address, open_options(), echo());
        let mut stream = server.connect();
        stream.write_all(&[encode(b"one"), encode(b"two"), vec![9, 0]].concat()).unwrap();
        stream.shut_down_write();
        assert_eq!(read_frame(&mut *stream), b"one");
        assert_eq!(read_frame(&mut *stream), b"two");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert_eq!(server.expect_closed(), CloseReason::Eof);
    }
}

#[test]
fn a_reset_is_told_from_an_end() {
    let server = Running::start(TCP, open_options(), echo());
    let Some(Endpoint::Tcp(address)) = server.address.literal().map(|mut l| l.remove(0)) else {
        panic!("TCP")
    };
    let stream = TcpStream::connect(address).unwrap();
    server.expect_accepted();
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    let reset = CloseReason::Reset(std::io::ErrorKind::ConnectionReset);
    assert_eq!(server.expect_closed(), reset);
}

#[test]
fn a_paused_connection_is_not_read_until_it_is_resumed_and_loses_nothing() {
    for address in [TCP.to_owned(), unix()] {
        let (frames, received) = channel();
        let on_frame: OnFrame = Box::new(move |_, link, frame| {
            frames.send((link.id(), frame.to_vec())).unwrap();
            Flow::Pause
        });
        let server = Running::start(&address, open_options(), on_frame);
        let payloads = numbered_payloads(300, 3);
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| encode(payload)).collect();
        let mut stream = server.connect();
        let writer = std::thread::spawn(move || {
            stream.write_all(&bytes).unwrap();
            stream
        });
        for payload in &payloads {
            let (id, frame) = received.recv_timeout(PATIENCE).unwrap();
            assert_eq!(frame, *payload);
            // Two turns of the loop later still nothing more has come.
            for _ in 0..2 {
                server.waker.wake();
                server.expect(|event| matches!(event, Event::Woken).then_some(()));
            }
            assert!(received.try_recv().is_err());
            server.command(move |ctx| ctx.resume(id));
        }
        drop(writer.join().unwrap());
        assert_eq!(server.expect_closed(), CloseReason::Eof);
    }
}

#[test]
fn the_end_of_a_paused_unix_peer_is_noticed() {
    let server = Running::start(&unix(), open_options(), Box::new(|_, _, _| Flow::Pause));
    // Whether it closes before the pause or after it.
    for before in [true, false, true, false] {
        let mut stream = server.connect();
        stream.write_all(&[encode(b"a"), encode(b"b")].concat()).unwrap();
        if !before {
            server.expect_accepted();
        }
        drop(stream);
        assert_eq!(server.expect_closed(), CloseReason::Eof);
    }
}

#[test]
fn a_connection_moves_to_another_loop_with_the_frames_that_were_read_already() {
    for address in [TCP.to_owned(), unix()] {
        let (detached_sender, detached) = channel();
        let first: OnFrame = Box::new(|ctx, link, frame| {
            assert_eq!(frame, b"move me");
            let _ = link.push_frame(|buffer| buffer.extend_from_slice(b"from the first"));
            assert!(ctx.detach(link.id()).is_none(), "the rest of the read would be lost");
            Flow::Detach
        });
        let acceptor = Running::start_with(&address, open_options(), first, Some(detached_sender));
        let second = Running::start(TCP, open_options(), echo());
        let mut stream = acceptor.connect();
        let payloads = numbered_payloads(1000, 4);
        let mut bytes = encode(b"move me");
        payloads.iter().for_each(|payload| bytes.extend(encode(payload)));
        let mut writer = stream.duplicate();
        let sender = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        let moved = detached.recv_timeout(PATIENCE).unwrap();
        let link = Arc::clone(moved.link().unwrap());
        second.command(move |ctx| assert!(ctx.attach(moved).is_ok()));
        assert_eq!(read_frame(&mut *stream), b"from the first");
        for payload in &payloads {
            assert_eq!(read_frame(&mut *stream), *payload);
        }
        sender.join().unwrap();
        drop(stream);
        assert_eq!(second.expect_closed(), CloseReason::Eof);
        assert!(link.is_closed());
        acceptor.command(|ctx| assert_eq!(ctx.connection_count(), 0));
    }
}

#[test]
fn a_connection_that_closes_on_its_way_is_reported_by_the_loop_that_takes_it() {
    let (sender, detached) = channel();
    let leave: OnFrame = Box::new(|_, _, _| Flow::Detach);
    let acceptor = Running::start_with(TCP, open_options(), leave, Some(sender));
    let second = Running::start(TCP, open_options(), echo());
    let mut stream = acceptor.connect();
    stream.write_all(&encode(b"")).unwrap();
    let moved = detached.recv_timeout(PATIENCE).unwrap();
    moved.link().unwrap().close(CloseReason::Local("changed my mind".into()));
    second.command(move |ctx| drop(ctx.attach(moved).unwrap()));
    assert_eq!(second.expect_closed(), CloseReason::Local("changed my mind".into()));

    let mut stream = acceptor.connect();
    stream.write_all(&encode(b"")).unwrap();
    drop(detached.recv_timeout(PATIENCE).unwrap());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn dials_succeed_are_refused_or_time_out_and_the_error_names_the_address() {
    let server = Running::start(&unix(), open_options(), echo());
    let client = Running::start(TCP, open_options(), echo());
    let dial = |address: &str, timeout_ms: u64| {
        let address: Address = address.parse().unwrap();
        let (sender, id) = channel();
        client.command(move |ctx| {
            sender.send(ctx.dial(&address, Duration::from_millis(timeout_ms))).unwrap();
        });
        let id = id.recv_timeout(PATIENCE).unwrap();
        client.expect(|event| match event {
            Event::Connected(dial, link) if dial == id => Some(Ok(link)),
            Event::Failed(dial, error) if dial == id => Some(Err(error)),
            _ => None,
        })
    };
    for address in [server.address.to_string(), client.address.to_string()] {
        let link = dial(&address, 5000).unwrap();
        link.close(CloseReason::Local("done".into()));
    }
    let Address::Tcp { port, .. } = client.address else { panic!("TCP") };
    dial(&format!("localhost:{port}"), 5000).unwrap();

    let free = Listener::bind(&TCP.parse().unwrap(), Budget::new(1)).unwrap().address().to_string();
    for (address, status) in [
        (free.as_str(), Status::Connect),
        ("unix:/no/such/socket", Status::Connect),
        ("no-such-host.invalid:1", Status::UnknownHost),
    ] {
        let error = dial(address, 5000).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert!(error.message().contains(address.split(":1").next().unwrap()), "{error}");
    }
    let (full, _kept) = full_listener();
    let error = dial(&full, 50).unwrap_err();
    assert_eq!(error.status(), Status::Timeout);
    assert!(error.message().contains(&full), "{error}");
}

/// A listener that answers nobody: its queue is full and it does not accept.
pub(super) fn full_listener() -> (String, Vec<socket2::Socket>) {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = new();
    let any: std::net::SocketAddr = TCP.parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut kept = vec![listener];
    for _ in 0..4 {
        let socket = new();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        kept.push(socket);
    }
    (address.as_socket().unwrap().to_string(), kept)
}

#[test]
fn a_cancelled_dial_is_never_reported() {
    let client = Running::start(TCP, open_options(), echo());
    let (full, _kept) = full_listener();
    let own = client.address.clone();
    client.command(move |ctx| {
        let (over, waiting) =
            (ctx.dial(&own, PATIENCE), ctx.dial(&full.parse().unwrap(), PATIENCE));
        ctx.cancel_dial(over);
        ctx.cancel_dial(waiting);
        assert!(ctx.dials.is_empty() && ctx.dialled.is_empty());
    });
    client.expect(|event| matches!(event, Event::Woken).then_some(()));
    client.command(|_| ());
    client.expect(|event| match event {
        Event::Connected(..) | Event::Failed(..) => panic!("it was cancelled"),
        event => matches!(event, Event::Woken).then_some(()),
    });
}

#[test]
fn no_wake_up_is_lost() {
    struct Counter(Arc<AtomicUsize>, usize);
    impl Handler for Counter {
        fn on_accept(&mut self, _: &mut Context, _: ListenerId, _: Socket) {}
        fn on_frame(&mut self, _: &mut Context, _: &Arc<Link>, _: &[u8]) -> Flow {
            Flow::Continue
        }
        fn on_closed(&mut self, _: &mut Context, _: &Arc<Link>, _: CloseReason) {}
        fn on_wake(&mut self, ctx: &mut Context) {
            if self.0.load(Ordering::Relaxed) == self.1 {
                ctx.stop();
            }
        }
    }
    let count = Arc::new(AtomicUsize::new(0));
    let mut reactor = Reactor::new(ReactorOptions::default()).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (count, waker) = (Arc::clone(&count), reactor.waker());
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    count.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                }
            })
        })
        .collect();
    // Returns only if the wake-up after the last increment was seen.
    reactor.run(&mut Counter(count, 4000)).unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn timers_run_when_they_are_due_and_not_before() {
    struct Timed(Vec<Nanos>, Nanos);
    impl Handler for Timed {
        fn on_accept(&mut self, _: &mut Context, _: ListenerId, _: Socket) {}
        fn on_frame(&mut self, _: &mut Context, _: &Arc<Link>, _: &[u8]) -> Flow {
            Flow::Continue
        }
        fn on_closed(&mut self, _: &mut Context, _: &Arc<Link>, _: CloseReason) {}
        fn next_timeout(&self) -> Option<Nanos> {
            Some(self.1)
        }
        fn on_timer(&mut self, ctx: &mut Context, now: Nanos) {
            assert!(now >= self.1);
            self.0.push(now);
            self.1 = now + Duration::from_millis(2);
            if self.0.len() == 5 {
                ctx.stop();
            }
        }
    }
    let start = sys::boottime();
    let mut timed = Timed(Vec::new(), start + Duration::from_millis(2));
    let spin = Duration::from_millis(1);
    Reactor::new(ReactorOptions { spin }).unwrap().run(&mut timed).unwrap();
    assert!(timed.0[4].since(start) >= Duration::from_millis(10));
}

#[test]
fn connections_beyond_the_budget_are_refused_and_places_come_back() {
    let mut reactor = Reactor::new(ReactorOptions::default()).unwrap();
    let budget = Budget::new(2);
    let listener = Listener::bind(&TCP.parse().unwrap(), Arc::clone(&budget)).unwrap();
    let address = listener.address().clone();
    reactor.context().listen(listener).unwrap();
    let (events, _events) = channel();
    let (_commands, commands) = channel();
    let (options, on_frame) = (open_options(), echo());
    let mut probe = Probe { events, commands, detached: None, options, on_frame };
    let mut streams: Vec<_> = (0..3).map(|_| connect(&address)).collect();
    let mut turn_until = |done: &dyn Fn(&mut Reactor) -> bool| {
        while !done(&mut reactor) {
            reactor.turn(&mut probe, PATIENCE).unwrap();
        }
    };
    turn_until(&|reactor| reactor.context().connection_count() == 2);
    assert_eq!(streams[2].read(&mut [0]).unwrap(), 0);
    assert_eq!(budget.used(), 2);
    streams.clear();
    turn_until(&|_| budget.used() == 0);
    let _stream = connect(&address);
    turn_until(&|_| budget.used() == 1);
}
