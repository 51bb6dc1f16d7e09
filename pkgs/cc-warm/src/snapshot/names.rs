//! The names in a folder, in one block of memory, sorted by their bytes.

use std::io;

/// Names: 8 bytes each, and what they are long.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    length: u16,
    regular: bool,
}

impl Names {
    /// Adds one. A folder with 4 GiB of names is an error.
    pub fn push(&mut self, name: &[u8]) -> io::Result<()> {
        self.push_of(name, false)
    }

    /// Adds one, and whether the listing has it as a regular file's.
    pub(super) fn push_of(&mut self, name: &[u8], regular: bool) -> io::Result<()> {
        let span = u32::try_from(self.bytes.len()).ok().zip(u16::try_from(name.len()).ok());
        let (start, length) = span.ok_or_else(|| io::Error::other("a folder has too many names"))?;
        self.spans.push(Span { start, length, regular });
        self.bytes.extend_from_slice(name);
        Ok(())
    }

    /// Sorts them.
    pub fn sort(&mut self) {
        let Self { bytes, spans } = self;
        spans.sort_unstable_by(|a, b| slice(bytes, *a).cmp(slice(bytes, *b)));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| slice(&self.bytes, *span))
    }

    /// The one at `at`, and whether the listing had it as a regular file's.
    pub(super) fn get(&self, at: usize) -> (&[u8], bool) {
        let span = self.spans[at];
        (slice(&self.bytes, span), span.regular)
    }
}

fn slice(bytes: &[u8], Span { start, length, .. }: Span) -> &[u8] {
    let start = start as usize;
    &bytes[start..start + usize::from(length)]
}
