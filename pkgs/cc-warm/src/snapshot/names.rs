//! The names in a folder, in one block of memory, sorted by their bytes.

use rustix::fs::FileType;

/// Names with the kind that the listing gave.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    length: u16,
    kind: FileType,
}

impl Names {
    /// Adds one.
    pub fn push(&mut self, name: &[u8], kind: FileType) {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.spans.push(Span { start: self.bytes.len(), length, kind });
        self.bytes.extend_from_slice(&name[..usize::from(length)]);
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

    /// The one at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&[u8], FileType)> {
        self.spans.get(index).map(|span| (slice(&self.bytes, *span), span.kind))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], FileType)> {
        self.spans.iter().map(|span| (slice(&self.bytes, *span), span.kind))
    }
}

fn slice(bytes: &[u8], span: Span) -> &[u8] {
    &bytes[span.start..span.start + usize::from(span.length)]
}
