//! The ring as a picture and a table, in plain Unicode text.
//!
//! The circle shows positions: who is whose successor. The bars show shares: how much each member
//! holds. With balanced placement the two are independent, so both are drawn.

use std::f64::consts::TAU;

use super::text::{bytes, count, counted};
use crate::ring::MemberState;
use crate::{MemberInfo, RingInfo};

/// Characters across and down; a character is about twice as high as wide.
const COLUMNS: usize = 45;
const ROWS: usize = 15;
/// Points along the circle, more than it has characters.
const STEPS: usize = 720;
/// Letters that stand for members; a larger ring is shown by its table alone.
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BAR: usize = 20;

/// Everything that `ringkv ring` shows.
pub fn ring(info: &RingInfo) -> String {
    let mut out = heading(info);
    if info.members.len() <= LETTERS.len() {
        out.push_str(&circle(info));
    }
    out.push('\n');
    out.push_str(&table(info));
    if let Some(moving) = &info.moving {
        let done = moving.copies_done as f64 / moving.copies_total.max(1) as f64;
        out.push_str(&format!(
            "\nmoving {} {:.0} %, {} of {} copies\n",
            bar(done, BAR),
            done * 100.0,
            count(moving.copies_done),
            count(moving.copies_total),
        ));
    }
    for warning in warnings(info) {
        out.push_str(&format!("! {warning}\n"));
    }
    out
}

/// One sentence for each thing that an operator should know.
pub fn warnings(info: &RingInfo) -> Vec<String> {
    let mut warnings = Vec::new();
    let is_dead = |m: &MemberInfo| matches!(m.state, MemberState::Down | MemberState::Away);
    let holders = info.members.iter().filter(|m| m.weight > 0 && !is_dead(m)).count();
    let wanted = usize::from(info.params.copies);
    if holders == 1 && wanted > 1 {
        warnings.push("every key has one copy only: the end of this node loses everything".into());
    } else if holders < wanted {
        warnings.push(format!(
            "every key has {holders} copies instead of {wanted}: the ring has too few nodes"
        ));
    }
    if info.required < info.params.min_insync && holders > 0 {
        let needs = match info.required {
            1 => "one copy".into(),
            more => format!("{more} copies"),
        };
        warnings.push(format!(
            "a write is acknowledged with {needs} instead of {}",
            info.params.min_insync
        ));
    }
    if info.lost > 0 {
        let partitions = counted(info.lost.into(), "partition");
        warnings.push(format!(
            "all copies of {partitions} are lost: their keys answer an error until 'ringkv reset'"
        ));
    }
    if info.under_replicated > 0 {
        let partitions = counted(info.under_replicated.into(), "partition");
        warnings.push(format!("{partitions} with fewer copies in sync than wanted and possible"));
    }
    if !info.params.leases {
        warnings.push("reads do without leases: each waits for a round trip to the copies".into());
    }
    for member in &info.members {
        if member.state == MemberState::Down {
            warnings.push(format!("{} is down", member.node.name));
        } else if member.state == MemberState::Away {
            let name = &member.node.name;
            warnings.push(format!(
                "{name} is away, its copies are made elsewhere: start it, or drop it with --force"
            ));
        } else if !member.reachable {
            warnings.push(format!("{} does not answer, its counts are unknown", member.node.name));
        }
    }
    warnings
}

/// A state as one word.
pub fn state(member: &MemberInfo) -> &'static str {
    match member.state {
        MemberState::Up if !member.reachable => "silent",
        MemberState::Up if member.weight == 0 => "router",
        MemberState::Up => "up",
        MemberState::Down => "down",
        MemberState::Away => "away",
        MemberState::Leaving => "leaving",
    }
}

fn heading(info: &RingInfo) -> String {
    let p = &info.params;
    let copies = if p.copies == 1 { "copy" } else { "copies" };
    format!(
        "ring {}, map version {}: {}, {} partitions, {} placement, {} {copies} of {} ({})\n",
        &info.cluster.to_string()[..8],
        info.version,
        counted(info.members.len() as u64, "node"),
        count(p.partitions.into()),
        format!("{:?}", p.placement).to_lowercase(),
        p.copies,
        counted(info.keys, "key"),
        bytes(info.bytes),
    )
}

/// The circle of positions: 0 on top, then clockwise.
fn circle(info: &RingInfo) -> String {
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    for step in 0..STEPS {
        let (row, column) = cell(step);
        cells[row][column] = '·';
    }
    for (member, letter) in info.members.iter().zip(LETTERS.chars()) {
        let wanted = (member.position as f64 / 2f64.powi(64) * STEPS as f64) as usize % STEPS;
        // Two members may be closer than one character: the later one goes to the next free one.
        let free = (0..STEPS).map(|more| cell((wanted + more) % STEPS));
        if let Some((row, column)) = free.into_iter().find(|(r, c)| cells[*r][*c] == '·') {
            cells[row][column] = letter;
        }
    }
    let middle =
        [counted(info.keys, "key"), bytes(info.bytes), format!("{} nodes", info.members.len())];
    for (at, text) in middle.iter().enumerate() {
        let row = &mut cells[ROWS / 2 - 1 + at];
        let start = (COLUMNS - text.chars().count().min(COLUMNS)) / 2;
        for (offset, c) in text.chars().enumerate().take(COLUMNS - start) {
            row[start + offset] = c;
        }
    }
    let mut out = String::new();
    for row in cells {
        let line: String = row.into_iter().collect();
        out.push_str("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn cell(step: usize) -> (usize, usize) {
    let angle = step as f64 / STEPS as f64 * TAU;
    let row = (1.0 - angle.cos()) / 2.0 * (ROWS - 1) as f64;
    let column = (1.0 + angle.sin()) / 2.0 * (COLUMNS - 1) as f64;
    (row.round() as usize, column.round() as usize)
}

fn table(info: &RingInfo) -> String {
    let mut rows = vec![
        [
            "",
            "name",
            "address",
            "state",
            "share",
            "",
            "primary",
            "copies",
            "keys held",
            "bytes held",
        ]
        .map(str::to_owned),
    ];
    let most = info.members.iter().map(|m| m.share).fold(0.0, f64::max);
    for (at, member) in info.members.iter().enumerate() {
        let mut name = member.node.name.clone();
        if !member.zone.is_empty() {
            name.push_str(&format!(" ({})", member.zone));
        }
        if member.coordinator {
            name.push_str(" *");
        }
        rows.push([
            LETTERS.chars().nth(at).map_or(String::new(), String::from),
            name,
            member.node.addr.clone(),
            state(member).into(),
            format!("{:.1} %", member.share * 100.0),
            // The longest bar is full, so that small differences can be seen in large rings.
            bar(if most > 0.0 { member.share / most } else { 0.0 }, BAR),
            count(member.primaries.into()),
            count(member.copies.into()),
            count(member.keys_held),
            bytes(member.bytes_held),
        ]);
    }
    let mut out = columns(&rows);
    if info.members.iter().any(|m| m.coordinator) {
        out.push_str("* runs the coordinator\n");
    }
    out
}

/// Rows of equal columns; numbers (from the fifth column on) to the right.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (text, width)) in row.iter().zip(widths).enumerate() {
            let pad = " ".repeat(width - text.chars().count());
            match at {
                0..=3 | 5 => line.push_str(&format!("{text}{pad}  ")),
                _ => line.push_str(&format!("{pad}{text}  ")),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A horizontal bar with eighths of a character.
pub fn bar(part: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let mut out = "█".repeat(eighths / 8);
    out.push_str(EIGHTHS[eighths % 8]);
    let used = out.chars().count();
    out.push_str(&"░".repeat(width.saturating_sub(used)));
    out
}

#[cfg(test)]
mod tests;
