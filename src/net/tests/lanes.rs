//! The blocking side: connections of a thread that has no loop.

use super::blocking::{LaneEvent, Lanes, connect as dial, flush_all};
use super::*;
use crate::base::Status;

fn wait_for_frames(lanes: &mut Lanes, count: usize) -> Vec<(ConnId, Vec<u8>)> {
    let deadline = sys::boottime() + PATIENCE;
    let mut frames = Vec::new();
    while frames.len() < count {
        assert!(sys::boottime() < deadline, "{} of {count} frames came", frames.len());
        lanes
            .wait(Duration::from_millis(50), |link, event| match event {
                LaneEvent::Frame(frame) => frames.push((link.id(), frame.to_vec())),
                LaneEvent::Closed(reason) => panic!("closed: {reason}"),
            })
            .unwrap();
    }
    frames
}

#[test]
fn one_thread_pipelines_over_several_connections() {
    let servers: Vec<_> = [TCP.to_owned(), unix(), TCP.to_owned()]
        .iter()
        .map(|address| Running::start(address, open_options(), echo()))
        .collect();
    let mut lanes = Lanes::new();
    lanes.set_spin(Duration::from_micros(50));
    let links: Vec<_> = servers
        .iter()
        .map(|server| lanes.add(dial(&server.address, PATIENCE).unwrap(), open_options()))
        .collect();
    let payloads = numbered_payloads(3000, 9);
    for payload in &payloads {
        for link in &links {
            link.push_frame(|buffer| buffer.extend_from_slice(payload)).unwrap();
        }
    }
    let frames = wait_for_frames(&mut lanes, 3 * payloads.len());
    for link in &links {
        let own: Vec<_> = frames.iter().filter(|(id, _)| *id == link.id()).collect();
        assert!(own.iter().map(|(_, frame)| frame).eq(payloads.iter()));
    }
}

#[test]
fn a_wait_ends_in_time_and_with_what_closed() {
    let server = Running::start(TCP, open_options(), echo());
    let mut lanes = Lanes::new();
    assert_eq!(lanes.wait(PATIENCE, |_, _| ()).unwrap(), 0);
    let ours = lanes.add(dial(&server.address, PATIENCE).unwrap(), open_options());
    let theirs = server.expect_accepted();
    let start = sys::boottime();
    assert_eq!(lanes.wait(Duration::from_millis(5), |_, _| ()).unwrap(), 0);
    assert!(sys::boottime().since(start) >= Duration::from_millis(5));

    theirs.push_frame(|buffer| buffer.extend_from_slice(b"last words")).unwrap();
    theirs.close_after_flush(CloseReason::Local("enough".into()));
    let mut seen = Vec::new();
    while !lanes.is_empty() {
        lanes.wait(PATIENCE, |_, event| seen.push(format!("{event:?}"))).unwrap();
    }
    assert_eq!(seen, [format!("{:?}", LaneEvent::Frame(b"last words")), "Closed(Eof)".to_owned()]);
    assert!(ours.is_closed());

    let options = ConnectionOptions { frame_max: 3, ..open_options() };
    let small = lanes.add(dial(&server.address, PATIENCE).unwrap(), options);
    small.push_frame(|buffer| buffer.extend_from_slice(b"four")).unwrap();
    let mut reason = None;
    while reason.is_none() {
        let note = |_: &Arc<Link>, event: LaneEvent<'_>| match event {
            LaneEvent::Closed(why) => reason = Some(why),
            LaneEvent::Frame(frame) => panic!("{frame:?} is too long"),
        };
        lanes.wait(PATIENCE, note).unwrap();
    }
    let refused = FrameTooLarge { claimed: 4, allowed: 3 };
    assert_eq!(reason, Some(CloseReason::FrameTooLarge(refused)));
}

#[test]
fn errors_of_connect_name_the_address() {
    let free = Listener::bind(&TCP.parse().unwrap(), Budget::new(1)).unwrap().address().clone();
    let (full, _kept) = loops::full_listener();
    for (address, timeout_ms, status) in [
        (free, 5000, Status::Connect),
        ("unix:/no/such/socket".parse().unwrap(), 5000, Status::Connect),
        (full.parse().unwrap(), 50, Status::Timeout),
        ("no-such-host.invalid:1".parse().unwrap(), 5000, Status::UnknownHost),
    ] {
        let error = dial(&address, Duration::from_millis(timeout_ms)).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert!(error.message().contains(&address.to_string()), "{error}");
    }
}

#[test]
fn a_large_push_is_sent_by_its_own_thread_while_another_one_waits() {
    let server = Running::start(&unix(), open_options(), echo());
    let mut lanes = Lanes::new();
    let link = lanes.add(dial(&server.address, PATIENCE).unwrap(), open_options());
    let sender = std::thread::spawn(move || {
        for _ in 0..20 {
            link.push_frame(|buffer| buffer.resize(buffer.len() + 1_000_000, 3)).unwrap();
        }
        flush_all(&link, PATIENCE).unwrap();
        link
    });
    assert_eq!(wait_for_frames(&mut lanes, 20)[19].1.len(), 1_000_000);
    let link = sender.join().unwrap();
    lanes.remove(link.id());
    assert_eq!(flush_all(&link, PATIENCE).unwrap_err().status(), Status::ConnectionLost);
}

#[test]
fn a_flush_that_waits_for_a_peer_that_does_not_read_ends_in_time() {
    let server = Running::start(TCP, open_options(), Box::new(|_, _, _| Flow::Pause));
    let mut lanes = Lanes::new();
    let link = lanes.add(dial(&server.address, PATIENCE).unwrap(), open_options());
    for _ in 0..60 {
        link.push_frame(|buffer| buffer.resize(buffer.len() + 1_000_000, 3)).unwrap();
    }
    let error = flush_all(&link, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.status(), Status::Timeout);
    assert!(link.pending() > 0);
}
