//! The write half: many threads, slow peers, closing.

use super::*;
use crate::base::Rng;

fn small_limits() -> ConnectionOptions {
    let limits = LinkLimits { high: 256 * 1024, low: 64 * 1024, ..LinkLimits::default() };
    ConnectionOptions { limits, ..open_options() }
}

#[test]
fn frames_of_many_threads_arrive_whole_and_in_each_threads_order() {
    for address in [TCP.to_owned(), unix()] {
        let server = Running::start(&address, open_options(), echo());
        let mut stream = server.connect();
        let link = server.expect_accepted();
        let threads: Vec<_> = (0..4u32)
            .map(|thread| {
                let link = Arc::clone(&link);
                std::thread::spawn(move || {
                    let mut rng = Rng::new(u64::from(thread));
                    for number in 0..2000u32 {
                        let padding = rng.below(2000) as usize;
                        link.push_frame(|buffer| {
                            buffer.extend_from_slice(&thread.to_le_bytes());
                            buffer.extend_from_slice(&number.to_le_bytes());
                            buffer.resize(buffer.len() + padding, thread as u8);
                        })
                        .unwrap();
                        link.flush();
                    }
                })
            })
            .collect();
        let mut next = [0u32; 4];
        for _ in 0..8000 {
            let frame = read_frame(&mut *stream);
            let thread = u32::from_le_bytes(frame[..4].try_into().unwrap());
            let number = u32::from_le_bytes(frame[4..8].try_into().unwrap());
            assert_eq!(number, next[thread as usize]);
            next[thread as usize] += 1;
            assert!(frame[8..].iter().all(|byte| u32::from(*byte) == thread));
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // The last send may still be at its accounting.
        while link.pending() > 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_read_either_and_goes_on_when_it_reads() {
    for address in [TCP.to_owned(), unix()] {
        let server = Running::start(&address, small_limits(), echo());
        let mut stream = server.connect();
        let link = server.expect_accepted();
        let mut writer = stream.duplicate();
        let count = 40_000;
        let sender = std::thread::spawn(move || {
            for number in 0u32..count {
                let mut payload = vec![0; 1000];
                payload[..4].copy_from_slice(&number.to_le_bytes());
                writer.write_all(&encode(&payload)).unwrap();
            }
        });
        while !link.is_over_high() {
            std::thread::yield_now();
        }
        for number in 0..count {
            // One read of the loop is what may come on top of the mark.
            assert!(link.pending() <= 256 * 1024 + 2 * SCRATCH_BYTES);
            assert_eq!(read_frame(&mut *stream)[..4], number.to_le_bytes());
        }
        sender.join().unwrap();
        server.expect(|event| matches!(event, Event::Drained).then_some(()));
    }
}

#[test]
fn over_its_bound_the_connection_is_closed_and_its_memory_freed() {
    let limits = LinkLimits { buffer_max: 1 << 20, ..LinkLimits::default() };
    let server = Running::start(TCP, ConnectionOptions { limits, ..open_options() }, echo());
    let _stream = server.connect();
    let link = server.expect_accepted();
    let reason = loop {
        match link.push(|buffer| buffer.resize(buffer.len() + 100_000, 1)) {
            Ok(pending) => assert!(pending <= 1 << 20),
            Err(reason) => break reason,
        }
        link.flush();
    };
    assert_eq!(reason, CloseReason::BufferFull);
    assert_eq!(server.expect_closed(), CloseReason::BufferFull);
    assert_eq!(link.pending(), 0);
    assert_eq!(link.push(|_| ()), Err(CloseReason::BufferFull));
}

#[test]
fn closing_from_another_thread_is_reported_once_with_the_first_reason() {
    let server = Running::start(TCP, open_options(), echo());
    let mut stream = server.connect();
    let link = server.expect_accepted();
    link.close(CloseReason::Local("first".into()));
    link.close(CloseReason::Local("second".into()));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(server.expect_closed(), CloseReason::Local("first".into()));
    server.command(|ctx| assert_eq!(ctx.connection_count(), 0));
    server.expect(|event| match event {
        Event::Closed(..) => panic!("reported twice"),
        event => matches!(event, Event::Woken).then_some(()),
    });
}

#[test]
fn closing_after_a_flush_sends_everything_first() {
    for address in [TCP.to_owned(), unix()] {
        let goodbye: OnFrame = Box::new(|_, link, _| {
            let _ = link.push_frame(|buffer| buffer.resize(buffer.len() + 8_000_000, 5));
            Flow::Close(CloseReason::Local("goodbye".into()))
        });
        let server = Running::start(&address, open_options(), goodbye);
        let mut stream = server.connect();
        stream.write_all(&[encode(b"x"), encode(b"never handled")].concat()).unwrap();
        assert_eq!(read_frame(&mut *stream).len(), 8_000_000);
        assert_eq!(server.expect_closed(), CloseReason::Local("goodbye".into()));
    }
}

#[test]
fn a_peer_that_never_reads_the_goodbye_is_closed_all_the_same() {
    let goodbye: OnFrame = Box::new(|_, link, _| {
        let _ = link.push_frame(|buffer| buffer.resize(buffer.len() + 60_000_000, 5));
        Flow::Close(CloseReason::Local("goodbye".into()))
    });
    let server = Running::start(TCP, open_options(), goodbye);
    let mut stream = server.connect();
    stream.write_all(&encode(b"x")).unwrap();
    assert_eq!(server.expect_closed(), CloseReason::Local("goodbye".into()));
}

#[test]
fn the_links_of_a_loop_that_ends_are_closed() {
    let server = Running::start(TCP, open_options(), echo());
    let mut stream = server.connect();
    let link = server.expect_accepted();
    drop(server);
    assert!(link.is_closed());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}
