//! Cutting a byte stream into frames, without copying what arrives whole.
//!
//! A frame is a `u32` in little-endian order, the length of what follows, and that many bytes. A
//! loop reads into one big scratch buffer that all its connections share; complete frames are
//! handed out as slices of it, and only a partial one at its end is copied into the connection's
//! own [`FrameBuffer`]. So an idle connection holds no memory, and a busy one copies next to
//! nothing.
//!
//! A claimed length is checked before anything is allocated, and even a permitted one is believed
//! only as far as bytes have arrived: the buffer grows by doubling, and its memory goes back after
//! a large frame.

/// Bytes of the length before each frame.
pub const FRAME_HEADER_BYTES: usize = 4;
/// What one read takes from a socket at most: the size of a loop's scratch buffer.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// What an emptied buffer may keep allocated.
const RETAINED_BYTES_MAX: usize = 16 * 1024;

/// The peer announced a frame that is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTooLarge {
    /// The length that it announced.
    pub claimed: usize,
    /// The longest that is allowed on this connection at this time.
    pub allowed: usize,
}

/// The bytes of one connection that were received and not handed out yet.
///
/// Invariants:
/// - `held[start..]` are those bytes, in order, beginning with a frame's header;
/// - `held.capacity()` stays below twice the bytes that arrived, or `RETAINED_BYTES_MAX`.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    held: Vec<u8>,
    start: usize,
}

impl FrameBuffer {
    /// An empty buffer; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next complete frame, without its header. `input` is what a read returned and `cursor`
    /// how much of it is used up, 0 at first. After `None` everything is used up: an incomplete
    /// frame at its end is kept here until the next read. A caller who stops before that must give
    /// the rest to [`FrameBuffer::hold`].
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        cursor: &mut usize,
        frame_max: usize,
    ) -> Result<Option<&'a [u8]>, FrameTooLarge> {
        self.release();
        if self.held.is_empty() {
            let rest = &input[*cursor..];
            return match frame_end(rest, frame_max)? {
                Some(end) if end <= rest.len() => {
                    *cursor += end;
                    Ok(Some(&rest[FRAME_HEADER_BYTES..end]))
                }
                end => {
                    *cursor = input.len();
                    self.append(rest, end);
                    Ok(None)
                }
            };
        }
        self.next_held(input, cursor, frame_max)
    }

    /// Keeps `rest` for later calls of [`FrameBuffer::next`]; it may contain complete frames.
    pub fn hold(&mut self, rest: &[u8]) {
        self.release();
        self.append(rest, None);
    }

    /// Whether [`FrameBuffer::next`] would return a frame, or refuse one, without new input.
    pub fn has_frame(&self, frame_max: usize) -> bool {
        let held = &self.held[self.start..];
        match frame_end(held, frame_max) {
            Ok(Some(end)) => end <= held.len(),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Bytes received and not handed out yet.
    pub fn len(&self) -> usize {
        self.held.len() - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Completes the frame at the front of `held` with exactly the bytes that it lacks, so that the
    /// frames after it can be handed out from `input` in place.
    fn next_held<'a>(
        &'a mut self,
        input: &'a [u8],
        cursor: &mut usize,
        frame_max: usize,
    ) -> Result<Option<&'a [u8]>, FrameTooLarge> {
        loop {
            let end = frame_end(&self.held[self.start..], frame_max)?;
            let wanted = end.unwrap_or(FRAME_HEADER_BYTES);
            let have = self.len();
            if let Some(end) = end.filter(|end| *end <= have) {
                let frame = self.start + FRAME_HEADER_BYTES..self.start + end;
                self.start += end;
                return Ok(Some(&self.held[frame]));
            }
            let rest = &input[*cursor..];
            if rest.is_empty() {
                return Ok(None);
            }
            let taken = rest.len().min(wanted - have);
            *cursor += taken;
            self.append(&rest[..taken], end);
        }
    }

    /// Forgets what was handed out, and gives memory back when nothing is left.
    fn release(&mut self) {
        if self.start == 0 {
            return;
        }
        if self.start == self.held.len() {
            self.held.clear();
            self.start = 0;
            if self.held.capacity() > RETAINED_BYTES_MAX {
                self.held = Vec::new();
            }
        } else if self.start > self.held.len() / 2 {
            // More than half is used up, so each byte is moved at most once in all.
            self.held.drain(..self.start);
            self.start = 0;
        }
    }

    /// Appends bytes of a frame of which all is expected to be here at offset `end`, if known.
    fn append(&mut self, bytes: &[u8], end: Option<usize>) {
        let needed = self.held.len() + bytes.len();
        if needed > self.held.capacity() {
            // Doubling, but not beyond the end of the frame: nothing is expected after it.
            let whole = end.map_or(needed, |end| (self.start + end).max(needed));
            let capacity = (self.held.capacity() * 2).max(needed).min(whole);
            self.held.reserve_exact(capacity - self.held.len());
        }
        self.held.extend_from_slice(bytes);
    }
}

/// Where the first frame of `bytes` ends, which may be beyond them; `None` without a whole header.
fn frame_end(bytes: &[u8], frame_max: usize) -> Result<Option<usize>, FrameTooLarge> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
    let claimed = u32::from_le_bytes(*header) as usize;
    if claimed > frame_max {
        return Err(FrameTooLarge { claimed, allowed: frame_max });
    }
    Ok(Some(FRAME_HEADER_BYTES + claimed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    /// Feeds `bytes` in pieces; after every `pause`-th frame the rest of the piece is held.
    fn decode(bytes: &[u8], cuts: &[usize], pause: usize) -> Vec<Vec<u8>> {
        let (mut buffer, mut frames, mut from) = (FrameBuffer::new(), Vec::new(), 0);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        for end in ends {
            let mut piece = &bytes[from..end];
            let mut cursor = 0;
            while let Some(frame) = buffer.next(piece, &mut cursor, 1 << 20).unwrap() {
                frames.push(frame.to_vec());
                if frames.len() % pause == 0 {
                    buffer.hold(&piece[cursor..]);
                    (piece, cursor) = (&[], 0);
                }
            }
            assert!(!buffer.has_frame(1 << 20));
            from = end;
        }
        assert!(buffer.is_empty());
        frames
    }

    proptest! {
        #[test]
        fn frames_survive_every_split(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..30),
            cuts in prop::collection::vec(any::<usize>(), 0..40),
            pause in 1usize..10,
        ) {
            prop_assert_eq!(decode(&encode(&payloads), &cuts, pause), payloads);
        }
    }

    #[test]
    fn an_oversize_frame_is_refused_before_anything_is_allocated() {
        let mut buffer = FrameBuffer::new();
        let mut bytes = encode(&[vec![1; 10]]);
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        let mut cursor = 0;
        assert_eq!(buffer.next(&bytes, &mut cursor, 10), Ok(Some(&[1; 10][..])));
        let refused = FrameTooLarge { claimed: u32::MAX as usize, allowed: 10 };
        assert_eq!(buffer.next(&bytes, &mut cursor, 10), Err(refused));
        assert_eq!(buffer.held.capacity(), 0);

        // The same when the header itself arrives byte by byte.
        let mut buffer = FrameBuffer::new();
        for byte in &u32::MAX.to_le_bytes()[..3] {
            assert_eq!(buffer.next(&[*byte], &mut 0, 10), Ok(None));
        }
        assert_eq!(buffer.next(&[0xFF], &mut 0, 10), Err(refused));
        assert!(buffer.held.capacity() < 64);
    }

    #[test]
    fn a_claimed_length_costs_no_more_than_what_arrived_and_memory_is_given_back() {
        let mut buffer = FrameBuffer::new();
        let length = 32 << 20;
        assert_eq!(buffer.next(&(length as u32).to_le_bytes(), &mut 0, length), Ok(None));
        assert!(buffer.held.capacity() < 1024);
        let piece = vec![7; SCRATCH_BYTES];
        let mut arrived = FRAME_HEADER_BYTES;
        for _ in 1..length / SCRATCH_BYTES {
            assert_eq!(buffer.next(&piece, &mut 0, length), Ok(None));
            arrived += piece.len();
            assert!(buffer.held.capacity() <= 2 * arrived);
        }
        let frame = buffer.next(&piece, &mut 0, length).unwrap().unwrap();
        assert_eq!(frame.len(), length);
        assert!(buffer.held.capacity() <= FRAME_HEADER_BYTES + length);
        assert_eq!(buffer.next(&[], &mut 0, length), Ok(None));
        assert_eq!(buffer.held.capacity(), 0);
    }
}
