//! What is recorded of an entry, and its line in a catalog.
//!
//! A line is `kind mode uid gid size mtime ctime inode name` and then `key=value` for what few entries have. Names and
//! targets are bytes; whatever is not printable ASCII, and `\`, is `\xHH`. A reader passes over keys that it does not
//! know.

use anyhow::{Context, Result, bail};
use rustix::fs::FileType;

use super::stat::{Stat, Time};

/// Digest of an entry's extended attributes, names and values, ACLs and capabilities among them.
pub type XattrSum = [u8; 16];

/// What is recorded of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: FileType,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length; 0 for folders, whose length is the file system's affair.
    pub size: u64,
    /// When the content changed.
    pub mtime: Time,
    /// When the inode changed, in the tree that was recorded.
    pub ctime: Time,
    /// The inode in the tree that was recorded: entries that share it are one file.
    pub inode: u64,
    /// How many names that inode had; 1 for folders.
    pub links: u32,
    /// A device node's numbers.
    pub device: (u32, u32),
    /// `FS_*_FL`, those that are kept.
    pub flags: u32,
    /// Project id.
    pub project: u32,
    /// Digest of the extended attributes; `None` if there are none.
    pub xattrs: Option<XattrSum>,
    /// A symlink's target.
    pub target: Vec<u8>,
    /// Its name; `.` at the top.
    pub name: Vec<u8>,
}

impl Entry {
    /// What `stat` says; the rest is unset.
    #[must_use]
    pub fn of(stat: &Stat, name: &[u8]) -> Self {
        let folder = stat.kind() == FileType::Directory;
        let device = matches!(stat.kind(), FileType::CharacterDevice | FileType::BlockDevice);
        Self {
            kind: stat.kind(),
            mode: stat.mode(),
            uid: stat.uid(),
            gid: stat.gid(),
            size: if folder { 0 } else { stat.size() },
            mtime: stat.mtime(),
            ctime: stat.ctime(),
            inode: stat.inode(),
            links: if folder { 1 } else { stat.links() },
            device: if device { stat.device() } else { (0, 0) },
            flags: 0,
            project: 0,
            xattrs: None,
            target: Vec::new(),
            name: name.to_vec(),
        }
    }

    /// The record by which a file is recognised as unchanged.
    #[must_use]
    pub fn record(&self) -> (u64, u64, Time, Time) {
        (self.inode, self.size, self.mtime, self.ctime)
    }

    /// What of `stat`, taken of a copy, is not as recorded; `None` if all is.
    #[must_use]
    pub fn differs(&self, stat: &Stat) -> Option<&'static str> {
        let other = Self::of(stat, &[]);
        if self.kind != other.kind {
            Some("kind")
        } else if self.size != other.size {
            Some("size")
        } else if self.mode != other.mode && self.kind != FileType::Symlink {
            Some("mode")
        } else if (self.uid, self.gid) != (other.uid, other.gid) {
            Some("owner")
        } else if self.mtime != other.mtime {
            Some("time")
        } else if self.device != other.device {
            Some("device number")
        } else {
            None
        }
    }

    /// Appends its line.
    pub fn write(&self, out: &mut Vec<u8>) {
        // A line an entry, and there may be millions: not by `write!`.
        out.extend([letter(self.kind), b' ']);
        digits::<3>(self.mode, out);
        for number in [u64::from(self.uid), u64::from(self.gid), self.size] {
            out.push(b' ');
            decimal(number, out);
        }
        for time in [self.mtime, self.ctime] {
            out.push(b' ');
            decimal(time.seconds, out);
            out.push(b'.');
            let nanos = itoa::Buffer::new().format(time.nanos).len();
            out.extend(std::iter::repeat_n(b'0', 9_usize.saturating_sub(nanos)));
            decimal(time.nanos, out);
        }
        out.push(b' ');
        decimal(self.inode, out);
        out.push(b' ');
        escape(&self.name, out);
        if self.links != 1 {
            out.extend_from_slice(b" links=");
            decimal(self.links, out);
        }
        if self.device != (0, 0) {
            out.extend_from_slice(b" device=");
            decimal(self.device.0, out);
            out.push(b':');
            decimal(self.device.1, out);
        }
        if self.flags != 0 {
            out.extend_from_slice(b" flags=");
            digits::<4>(self.flags, out);
        }
        if self.project != 0 {
            out.extend_from_slice(b" project=");
            decimal(self.project, out);
        }
        if let Some(sum) = &self.xattrs {
            out.extend_from_slice(b" xattrs=");
            hex(sum, out);
        }
        if self.kind == FileType::Symlink {
            out.extend_from_slice(b" target=");
            escape(&self.target, out);
        }
        out.push(b'\n');
    }

    /// Reads the line `line`, its end excluded.
    pub fn parse(line: &[u8]) -> Result<Self> {
        Self::fields(line).with_context(|| format!("`{}` is no entry", line.escape_ascii()))
    }

    fn fields(line: &[u8]) -> Result<Self> {
        let mut fields = line.split(|&b| b == b' ');
        let mut next = || fields.next().context("it is cut short");
        let kind = match next()? {
            b"f" => FileType::RegularFile,
            b"d" => FileType::Directory,
            b"l" => FileType::Symlink,
            b"p" => FileType::Fifo,
            b"c" => FileType::CharacterDevice,
            b"b" => FileType::BlockDevice,
            b"s" => FileType::Socket,
            _ => bail!("its kind is unknown"),
        };
        let mut entry = Self {
            kind,
            mode: u32::from_str_radix(text(next()?)?, 8)?,
            uid: number(next()?)?,
            gid: number(next()?)?,
            size: number(next()?)?,
            mtime: time(next()?)?,
            ctime: time(next()?)?,
            inode: number(next()?)?,
            links: 1,
            device: (0, 0),
            flags: 0,
            project: 0,
            xattrs: None,
            target: Vec::new(),
            name: unescape(next()?)?,
        };
        for field in fields {
            let at = field.iter().position(|&b| b == b'=').context("a field has no value")?;
            let value = &field[at + 1..];
            match &field[..at] {
                b"links" => entry.links = number(value)?,
                b"device" => {
                    let colon = value.iter().position(|&b| b == b':').context("a device has two numbers")?;
                    entry.device = (number(&value[..colon])?, number(&value[colon + 1..])?);
                }
                b"flags" => entry.flags = u32::from_str_radix(text(value)?, 16)?,
                b"project" => entry.project = number(value)?,
                b"xattrs" => entry.xattrs = Some(unhex(value)?),
                b"target" => entry.target = unescape(value)?,
                _ => {}
            }
        }
        Ok(entry)
    }
}

fn letter(kind: FileType) -> u8 {
    match kind {
        FileType::Directory => b'd',
        FileType::Symlink => b'l',
        FileType::Fifo => b'p',
        FileType::CharacterDevice => b'c',
        FileType::BlockDevice => b'b',
        FileType::Socket => b's',
        FileType::RegularFile | FileType::Unknown => b'f',
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    Ok(std::str::from_utf8(bytes)?)
}

fn number<N: std::str::FromStr<Err = std::num::ParseIntError>>(bytes: &[u8]) -> Result<N> {
    Ok(text(bytes)?.parse()?)
}

fn time(bytes: &[u8]) -> Result<Time> {
    let (seconds, nanos) = text(bytes)?.split_once('.').context("a time has nanoseconds")?;
    Ok(Time { seconds: seconds.parse()?, nanos: nanos.parse()? })
}

fn decimal(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `number` in digits of `BITS` bits each, without zeros before it.
fn digits<const BITS: u32>(number: u32, out: &mut Vec<u8>) {
    let count = (u32::BITS - number.leading_zeros()).div_ceil(BITS).max(1);
    out.extend((0..count).rev().map(|at| DIGITS[(number >> (at * BITS)) as usize & ((1 << BITS) - 1)]));
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` as hexadecimal digits.
pub fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// The `N` bytes that `digits` write.
pub fn unhex<const N: usize>(digits: &[u8]) -> Result<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        bail!("there must be {} hexadecimal digits", 2 * N);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0]).zip(value(pair[1])).map(|(high, low)| high << 4 | low).context("no such digit")?;
    }
    Ok(bytes)
}

fn escape(name: &[u8], out: &mut Vec<u8>) {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if name.iter().copied().all(plain) {
        return out.extend_from_slice(name);
    }
    for &byte in name {
        if plain(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(b"\\x");
            hex(&[byte], out);
        }
    }
}

fn unescape(text: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'\\' {
            let digits =
                tail.strip_prefix(b"x").and_then(|digits| digits.get(..2)).context("an escape is cut short")?;
            bytes.extend(unhex::<1>(digits)?);
            rest = &tail[3..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = FileType> {
        proptest::sample::select(vec![
            FileType::RegularFile,
            FileType::Directory,
            FileType::Symlink,
            FileType::Fifo,
            FileType::CharacterDevice,
            FileType::BlockDevice,
            FileType::Socket,
        ])
    }

    fn times() -> impl Strategy<Value = Time> {
        (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Time { seconds, nanos })
    }

    prop_compose! {
        fn entries()(
            kind in kinds(),
            (mode, uid, gid, size, inode) in (0..0o10000_u32, any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()),
            (mtime, ctime, links, device) in (times(), times(), any::<u32>(), any::<(u32, u32)>()),
            (flags, project, xattrs) in (any::<u32>(), any::<u32>(), any::<Option<[u8; 16]>>()),
            (name, target) in (prop::collection::vec(1..=255_u8, 1..256), prop::collection::vec(1..=255_u8, 0..300)),
        ) -> Entry {
            let target = if kind == FileType::Symlink { target } else { Vec::new() };
            Entry { kind, mode, uid, gid, size, mtime, ctime, inode, links, device, flags, project, xattrs, target, name }
        }
    }

    proptest! {
        #[test]
        fn a_line_says_all_of_an_entry_and_is_one_line(entry in entries()) {
            let mut line = Vec::new();
            entry.write(&mut line);
            prop_assert_eq!(line.iter().filter(|b| !(b' '..=b'~').contains(b)).count(), 1);
            prop_assert_eq!(Entry::parse(&line[..line.len() - 1]).unwrap(), entry);
        }

        #[test]
        fn no_line_makes_the_reader_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entry::parse(&line);
        }
    }

    #[test]
    fn passes_over_keys_that_it_does_not_know() {
        let line = b"f 644 0 0 5 1.000000002 3.000000004 7 a\\x0ab colour=red links=2";
        let entry = Entry::parse(line).unwrap();
        assert_eq!((entry.name.as_slice(), entry.links, entry.record().0), (&b"a\nb"[..], 2, 7));
    }

    #[test]
    fn refuses_what_is_cut_short() {
        let whole = b"f 644 0 0 5 1.000000002 3.000000004 7 name";
        for end in 0..whole.len() - 4 {
            assert!(Entry::parse(&whole[..end]).is_err(), "{end}");
        }
    }
}
