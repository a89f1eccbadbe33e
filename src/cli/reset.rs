//! `reset`: lost partitions start again, empty.

use std::io::{BufRead, IsTerminal, Write};

use serde_json::json;

use super::args::ResetArgs;
use super::output::{Done, Failure, Outcome};
use super::text::counted;
use super::{Session, connect};
use crate::base::PartitionId;

/// `ringkv reset`
pub(super) fn run(args: &ResetArgs, session: &mut Session) -> Outcome {
    let ring = connect(&args.target)?;
    let count = match args.partition {
        Some(number) => {
            confirm(&format!("partition {number}"), args.yes)?;
            ring.reset_partition(PartitionId(number), args.target.timeout())?;
            1
        }
        None => match ring.lost_partitions()?.len() as u64 {
            0 => 0,
            lost => {
                confirm(&counted(lost, "partition"), args.yes)?;
                ring.reset_lost(args.target.timeout())?
            }
        },
    };
    if session.out.json {
        session.out.json_line(&json!({"partitions_reset": count}))?;
    } else if count == 0 {
        session.out.line("nothing is lost")?;
    } else {
        let partitions = counted(count.into(), "partition");
        session.out.line(format_args!("{partitions} reset: empty, and in use again"))?;
    }
    Ok(Done::Yes)
}

/// Makes sure that somebody wants it: by `--yes`, or by asking on a terminal.
fn confirm(what: &str, yes: bool) -> Outcome<()> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(format!(
            "{what} would start again, empty: add --yes if the keys are to be given up"
        )));
    }
    let mut stderr = std::io::stderr();
    // If nobody can read the question, nobody answers it with yes.
    let _ = write!(stderr, "Give up the keys of {what} for good? [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    read.map_err(|error| Failure::io("cannot read the answer", &error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was reset")),
    }
}
