//! `watch`: what happens to the ring, as it happens.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::WatchArgs;
use super::output::{Done, Outcome};
use super::{Session, connect};
use crate::{Event, Status};

/// How long is waited in one go; Ctrl-C ends that at once.
const PATIENCE: Duration = Duration::from_secs(3600);

/// `ringkv watch`
pub(super) fn run(args: &WatchArgs, session: &mut Session) -> Outcome {
    let ring = connect(&args.target)?;
    let interrupted = session.interrupted();
    let mut events = ring.events()?;
    if !session.out.json {
        let info = ring.info()?;
        let members: Vec<&str> = info.members.iter().map(|m| m.node.name.as_str()).collect();
        session
            .out
            .progress_line(format_args!("watching {}; Ctrl-C ends it", members.join(", ")))?;
    }
    loop {
        let event = match events.next(PATIENCE) {
            // Being watched until somebody has seen enough is no error.
            Err(error) if error.status() == Status::Aborted && interrupted.is_set() => {
                return Ok(Done::Yes);
            }
            event => event?,
        };
        let Some(event) = event else { continue };
        match session.out.json {
            true => session.out.json_line(&event_json(&event))?,
            false => session.out.line(line(&event))?,
        }
        session.out.flush()?;
    }
}

fn line(event: &Event) -> String {
    let seconds = event.time_ms / 1000;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = event.time_ms % 1000;
    format!("{hour:02}:{minute:02}:{second:02}.{millis:03}Z  {}", event.text())
}

fn event_json(event: &Event) -> Value {
    let member = event.member.as_ref();
    json!({
        "kind": event.kind.name(),
        "time_ms": event.time_ms,
        "member": member.map(|node| json!({
            "id": node.mid.0, "name": node.name, "address": node.addr,
        })),
        "partitions": event.partitions,
        "done": event.done,
        "total": event.total,
        "text": event.text(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventKind;

    #[test]
    fn a_line_has_the_time_of_day() {
        let event = Event {
            kind: EventKind::Recovered,
            time_ms: 1_700_000_000_042,
            member: None,
            partitions: 0,
            done: 0,
            total: 0,
        };
        assert_eq!(line(&event), "22:13:20.042Z  every partition has its copies again");
    }
}
