//! The digest of a file's content: the same for the same content, wherever its holes are.
//!
//! A file is cut into spans of 8 MiB and these into blocks of 64 KiB. A span's digest is BLAKE3 of those of its blocks
//! that are not all zeros, then of a map of which they are; a file's is BLAKE3 of its length and of number and digest
//! of each span that has such a block. So holes need not be read, zeros that were written count as a hole, and the
//! spans of a file can be digested in any order, at the same time.

/// Bytes of a span.
pub(super) const SPAN: u64 = SPAN_LENGTH as u64;
const SPAN_LENGTH: usize = 8 << 20;
/// Bytes of a block.
pub(super) const BLOCK: usize = 64 << 10;
const BLOCKS: usize = SPAN_LENGTH / BLOCK;

/// One span's digest in the making. Blocks must come in order.
#[derive(Debug, Default)]
pub(super) struct Span {
    hasher: blake3::Hasher,
    map: [u8; BLOCKS / 8],
}

impl Span {
    /// Takes in `data`, which begins at the block `first` of the span and ends with a block (or with the file).
    pub(super) fn add(&mut self, first: usize, data: &[u8]) {
        // Runs of blocks at once: BLAKE3 is fastest on long input.
        let mut run = 0;
        for (at, block) in data.chunks(BLOCK).enumerate() {
            let start = at * BLOCK;
            if is_zero(block) {
                self.hasher.update(&data[run..start]);
                run = start + block.len();
            } else {
                self.map[(first + at) / 8] |= 1 << ((first + at) % 8);
            }
        }
        self.hasher.update(&data[run..]);
    }

    /// Its digest; `None` if all was zero.
    #[must_use]
    pub(super) fn finish(mut self) -> Option<[u8; 32]> {
        if self.map.iter().all(|&byte| byte == 0) {
            return None;
        }
        self.hasher.update(&self.map);
        Some(self.hasher.finalize().into())
    }
}

/// The digest of a file that is one block or less: the `size` bytes at the start of `buffer`, which has room for a map
/// behind them.
#[must_use]
pub(super) fn short(buffer: &mut [u8], size: usize) -> [u8; 32] {
    let (data, rest) = buffer.split_at_mut(size);
    let mut whole = [0; 8 + 8 + 32];
    whole[..8].copy_from_slice(&(size as u64).to_le_bytes());
    if is_zero(data) {
        return blake3::hash(&whole[..8]).into();
    }
    let map = &mut rest[..BLOCKS / 8];
    map.fill(0);
    map[0] = 1;
    whole[16..].copy_from_slice(blake3::hash(&buffer[..size + BLOCKS / 8]).as_bytes());
    blake3::hash(&whole).into()
}

/// The digest of a file of `size` bytes, whose `spans` (number and digest) are in order.
#[must_use]
pub(super) fn file(size: u64, spans: &[(u64, [u8; 32])]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    for (number, digest) in spans {
        hasher.update(&number.to_le_bytes());
        hasher.update(digest);
    }
    hasher.finalize().into()
}

fn is_zero(block: &[u8]) -> bool {
    let (head, rest) = block.split_at(block.len().min(16));
    // All bytes equal the first ones, and these are zero: one comparison of memory.
    head.iter().all(|&byte| byte == 0) && (rest.is_empty() || block[..block.len() - head.len()] == *rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(data: &[u8], step: usize) -> [u8; 32] {
        let mut spans = Vec::new();
        for (number, part) in data.chunks(SPAN_LENGTH).enumerate() {
            let mut span = Span::default();
            for (at, piece) in part.chunks(step * BLOCK).enumerate() {
                if !is_zero(piece) {
                    span.add(at * step, piece);
                }
            }
            spans.extend(span.finish().map(|digest| (number as u64, digest)));
        }
        file(data.len() as u64, &spans)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn is_the_same_in_whatever_steps_it_is_read(
            blocks in prop::collection::vec(prop::option::weighted(0.5, any::<u8>()), 0..200),
            tail in 0..BLOCK,
        ) {
            let mut data: Vec<u8> = blocks.iter().flat_map(|fill| {
                let mut block = vec![0; BLOCK];
                block[BLOCK / 2] = fill.unwrap_or(0);
                block
            }).collect();
            data.resize(data.len() + tail, 9);
            let whole = digest(&data, BLOCKS);
            prop_assert_eq!(digest(&data, 1), whole);
            prop_assert_eq!(digest(&data, 16), whole);
        }
    }

    proptest! {
        #[test]
        fn a_short_file_has_the_digest_that_it_has_in_steps(
            mut buffer in prop::collection::vec(prop::sample::select(vec![0, 0, 0, 7_u8]), 0..=BLOCK),
            zeros in any::<bool>(),
        ) {
            if zeros {
                buffer.fill(0);
            }
            let (size, wanted) = (buffer.len(), digest(&buffer, 1));
            buffer.resize(size + 4096, 9);
            prop_assert_eq!(short(&mut buffer, size), wanted);
        }
    }

    #[test]
    fn tells_contents_apart() {
        let mut all = std::collections::HashSet::new();
        let mut one = vec![0_u8; 3 * BLOCK];
        for size in [0, 1, BLOCK, 3 * BLOCK] {
            assert!(all.insert(digest(&one[..size], 1)), "{size}");
        }
        for at in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK, 3 * BLOCK - 1] {
            one[at] = 1;
            assert!(all.insert(digest(&one, 1)), "{at}");
            one[at] = 0;
        }
        let mut far = vec![0_u8; SPAN_LENGTH + 1];
        far[0] = 1;
        assert!(all.insert(digest(&far, 1)));
        far.swap(0, SPAN_LENGTH);
        assert!(all.insert(digest(&far, 1)));
    }

    #[test]
    fn knows_zeros() {
        for length in [0, 1, 15, 16, 17, 31, 32, 33, 4096, BLOCK] {
            let mut block = vec![0; length];
            assert!(is_zero(&block), "{length}");
            for at in (0..length).filter(|at| *at < 70 || at + 70 > length) {
                block[at] = 1;
                assert!(!is_zero(&block), "{length} {at}");
                block[at] = 0;
            }
        }
    }
}
