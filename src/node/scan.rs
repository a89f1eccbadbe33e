//! Walking over the whole ring.
//!
//! A ring is walked partition by partition, many at a time, because most partitions fit into one
//! page. A place in a partition means something only to the replica that named it. So a page counts
//! only if the partition's row in the map was the same before it was asked for and after it came:
//! then its primary was the same all the time. Otherwise that one partition is walked again from
//! its beginning, and its keys may be seen twice.

use std::collections::VecDeque;

use super::config::{Lookup, ScanOptions};
use super::drive::refusal;
use super::handle::{Pair, Ring};
use crate::base::limits::SCAN_PAGE_ITEMS_MAX;
use crate::base::{Cfg, ClusterId, Error, PartitionId, Result, Status};
use crate::ring::RingMap;
use crate::wire::{Op, Page, Reply};

/// Partitions that are asked for a page at the same time.
const PARTITIONS_PER_ROUND: usize = 64;

/// A walk over the ring, page by page.
pub struct Scan {
    ring: Ring,
    options: ScanOptions,
    cluster: ClusterId,
    partitions: u32,
    /// The first partition that was not begun.
    next: u32,
    begun: VecDeque<Walk>,
    failed: Vec<Walk>,
    ready: VecDeque<Vec<Pair>>,
}

/// A partition that is not walked to its end.
#[derive(Clone, Copy)]
struct Walk {
    pid: PartitionId,
    cursor: (u64, u32),
    /// The partition's configuration when the cursor was named.
    cfg: Cfg,
}

impl Scan {
    pub(super) fn new(ring: Ring, options: ScanOptions) -> Result<Self> {
        let map = ring.source().map()?;
        Ok(Self {
            options,
            cluster: map.cluster,
            partitions: map.params.partitions,
            next: 0,
            begun: VecDeque::new(),
            failed: Vec::new(),
            ready: VecDeque::new(),
            ring,
        })
    }

    /// The next page (never empty), or `None` at the end. After an error the same page may be
    /// asked for again.
    pub fn next_page(&mut self) -> Result<Option<Vec<Pair>>> {
        self.ring.source().check_open()?;
        loop {
            if let Some(page) = self.ready.pop_front() {
                return Ok(Some(page));
            }
            let map = self.ring.source().map()?;
            if map.cluster != self.cluster {
                let sentence = "the node now belongs to another ring";
                return Err(Error::new(Status::WrongRing, sentence));
            }
            let walks = self.next_walks(&map);
            if walks.is_empty() {
                return Ok(None);
            }
            if let Some(error) = self.round(walks)?
                && self.ready.is_empty()
                && self.begun.is_empty()
                && self.next == self.partitions
            {
                return Err(error);
            }
        }
    }

    /// Which partitions to ask: those that failed only when nothing else is left to do.
    fn next_walks(&mut self, map: &RingMap) -> Vec<Walk> {
        let many = self.begun.len().min(PARTITIONS_PER_ROUND);
        let mut walks: Vec<Walk> = self.begun.drain(..many).collect();
        while walks.len() < PARTITIONS_PER_ROUND && self.next < self.partitions {
            walks.push(Walk { pid: PartitionId(self.next), cursor: (0, 0), cfg: Cfg::ZERO });
            self.next += 1;
        }
        if walks.is_empty() {
            walks.append(&mut self.failed);
        }
        for walk in &mut walks {
            let cfg = cfg_in(map, walk.pid);
            if cfg != walk.cfg {
                (walk.cursor, walk.cfg) = ((0, 0), cfg);
            }
        }
        walks
    }

    /// Gets one page of each of these partitions. The error is one that a partition answered
    /// with; that partition will be asked again. After an `Err` all of them will.
    fn round(&mut self, walks: Vec<Walk>) -> Result<Option<Error>> {
        let source = self.ring.source().clone();
        let ops: Vec<Op<'_>> = walks
            .iter()
            .map(|walk| Op::Scan {
                pid: walk.pid,
                cursor: walk.cursor,
                limit: SCAN_PAGE_ITEMS_MAX as u32,
                keys_only: self.options.keys_only,
                prefix: &self.options.prefix,
            })
            .collect();
        let until = source.deadline(self.options.timeout);
        let mut pages: Vec<Option<Result<OwnPage>>> = walks.iter().map(|_| None).collect();
        let driven = source.drive(Lookup::Direct, until, &ops, &mut |at, result| {
            if let Some(slot) = pages.get_mut(at) {
                *slot = Some(result.and_then(own_page));
            }
        });
        let map = source.map();
        let (mut items, mut error) = (Vec::new(), None);
        for (walk, page) in walks.into_iter().zip(pages) {
            let page = match page.unwrap_or_else(|| Err(Status::Aborted.into())) {
                Ok(page) => page,
                Err(refused) => {
                    self.failed.push(walk);
                    error = Some(refused);
                    continue;
                }
            };
            let is_whole = walk.cursor == (0, 0) && page.next.is_none();
            if !is_whole && map.as_ref().is_ok_and(|map| cfg_in(map, walk.pid) != walk.cfg) {
                self.begun.push_back(Walk { cursor: (0, 0), ..walk });
                continue;
            }
            if let Some(cursor) = page.next {
                self.begun.push_back(Walk { cursor, ..walk });
            }
            items.extend(page.items);
            if items.len() >= SCAN_PAGE_ITEMS_MAX {
                self.ready.push_back(std::mem::take(&mut items));
            }
        }
        if !items.is_empty() {
            self.ready.push_back(items);
        }
        driven.map(|()| error)
    }
}

fn cfg_in(map: &RingMap, pid: PartitionId) -> Cfg {
    map.part(pid).map_or(Cfg::ZERO, |part| part.cfg)
}

struct OwnPage {
    next: Option<(u64, u32)>,
    items: Vec<Pair>,
}

fn own_page(reply: &Reply<'_>) -> Result<OwnPage> {
    match reply {
        Reply::Page(Page { next, items }) => Ok(OwnPage {
            next: *next,
            items: items.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect(),
        }),
        other => Err(refusal(other).unwrap_or_else(|| Status::Protocol.into())),
    }
}
