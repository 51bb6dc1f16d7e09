//! What is known of a tree, on disk: its entries, and the digests of their content, as two streams.
//!
//! Both begin with a header of [`HEADER`] bytes, a JSON object padded with blanks, and go on with lines. The entries
//! come in the order of a walk: a folder's line, then what is in it that is no folder, sorted by name, then its
//! folders, each with what is in it, then `^`. The digests have one line for each line of a regular file, in the same
//! order: 64 digits, `-` for another name of a file whose digest stands elsewhere, `?` where none was taken.
//! The headers have a checksum over all that follows, which is checked before a line is believed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::FileType;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, hex, unhex};
use super::moment::Moment;

/// Length of a header.
const HEADER: usize = 512;
/// The format that this program writes.
const FORMAT: u32 = 1;

/// Where what is known of a tree lies.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Its entries.
    pub entries: PathBuf,
    /// The digests of its files' content, where they were taken.
    pub digests: PathBuf,
}

/// What the entries' header says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// 1.
    pub format: u32,
    /// When the recording began, and in which boot.
    pub began: Moment,
    /// Whether the app ran meanwhile.
    pub running: bool,
    /// The kind of file system that the recorded tree is on.
    pub file_system: String,
    /// How many entries there are, the top among them.
    pub entries: u64,
    /// BLAKE3 of all lines.
    pub sum: String,
}

/// What the digests' header says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct DigestHeader {
    format: u32,
    /// The entries' checksum.
    of: String,
    /// How many lines are `?`.
    missing: u64,
    sum: String,
}

/// The digest of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// It is this.
    Known([u8; 32]),
    /// It stands with another name of the same file.
    Elsewhere,
    /// None was taken.
    Missing,
}

impl Digest {
    /// Appends its line.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Known(bytes) => hex(bytes, out),
            Self::Elsewhere => out.push(b'-'),
            Self::Missing => out.push(b'?'),
        }
        out.push(b'\n');
    }

    fn parse(line: &[u8]) -> Result<Self> {
        Ok(match line {
            b"-" => Self::Elsewhere,
            b"?" => Self::Missing,
            digits => Self::Known(unhex(digits).context("a digest's line does not parse")?),
        })
    }
}

/// The line that ends a folder.
pub const LEAVE: &[u8] = b"^\n";

/// A stream of lines under a header, being written.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: BufWriter<File>,
    sum: blake3::Hasher,
}

impl Lines {
    /// Begins `path`, which must not be there.
    pub fn create(path: &Path) -> Result<Self> {
        let begin = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&[b' '; HEADER])?;
            Ok(file)
        };
        let file = begin().with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 16, file), sum: blake3::Hasher::new() })
    }

    /// Appends whole lines.
    pub fn write(&mut self, lines: &[u8]) -> Result<()> {
        self.sum.update(lines);
        self.file.write_all(lines).with_context(|| format!("cannot write `{}`", self.path.display()))
    }

    fn finish<H: Serialize>(mut self, header: impl FnOnce(String) -> H) -> Result<H> {
        let header = header(self.sum.finalize().to_hex().to_string());
        let mut bytes = serde_json::to_vec(&header)?;
        ensure!(bytes.len() < HEADER, "a header is too long");
        bytes.resize(HEADER - 1, b' ');
        bytes.push(b'\n');
        let mut end = || -> std::io::Result<()> {
            self.file.flush()?;
            self.file.get_ref().write_all_at(&bytes, 0)
        };
        end().with_context(|| format!("cannot write `{}`", self.path.display()))?;
        Ok(header)
    }

    /// Ends a stream of entries.
    pub fn finish_entries(self, began: Moment, running: bool, file_system: &str, entries: u64) -> Result<Header> {
        let file_system = file_system.to_owned();
        self.finish(|sum| Header { format: FORMAT, began, running, file_system, entries, sum })
    }

    /// Ends a stream of digests of the entries whose checksum is `of`.
    pub fn finish_digests(self, of: &str, missing: u64) -> Result<()> {
        self.finish(|sum| DigestHeader { format: FORMAT, of: of.to_owned(), missing, sum })?;
        Ok(())
    }
}

/// What comes next in a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A folder, and what is in it follows.
    Enter(Entry),
    /// Something else, and its digest if it is a regular file and digests are read along.
    Entry(Entry, Digest),
    /// The end of the folder.
    Leave,
}

/// Reads a catalog as a stream.
#[derive(Debug)]
pub struct Reader {
    header: Header,
    path: PathBuf,
    entries: BufReader<File>,
    digests: Option<BufReader<File>>,
    missing: u64,
    line: Vec<u8>,
}

impl Reader {
    /// Opens the entries, and checks their checksum: what it hands out is what was written.
    pub fn of_entries(catalog: &Catalog) -> Result<Self> {
        let (header, entries) = checked::<Header>(&catalog.entries, |header| &header.sum)?;
        Ok(Self { header, path: catalog.entries.clone(), entries, digests: None, missing: 0, line: Vec::new() })
    }

    /// As [`Reader::of_entries`], with the digests, if there are any.
    pub fn open(catalog: &Catalog) -> Result<Self> {
        let mut reader = Self::of_entries(catalog)?;
        if catalog.digests.try_exists().with_context(|| format!("cannot read `{}`", catalog.digests.display()))? {
            let (header, digests) = checked::<DigestHeader>(&catalog.digests, |header| &header.sum)?;
            ensure!(
                header.of == reader.header.sum,
                "`{}` belongs to other entries than `{}`",
                catalog.digests.display(),
                catalog.entries.display()
            );
            reader.digests = Some(digests);
            reader.missing = header.missing;
        }
        Ok(reader)
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether every file has its digest.
    #[must_use]
    pub fn is_digested(&self) -> bool {
        self.digests.is_some() && self.missing == 0
    }

    /// The next event; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and is used as a stream")]
    pub fn next(&mut self) -> Result<Option<Event>> {
        self.step().with_context(|| format!("`{}` cannot be read", self.path.display()))
    }

    fn step(&mut self) -> Result<Option<Event>> {
        if !read_line(&mut self.entries, &mut self.line)? {
            return Ok(None);
        }
        if self.line == b"^" {
            return Ok(Some(Event::Leave));
        }
        let entry = Entry::parse(&self.line)?;
        if entry.kind == FileType::Directory {
            return Ok(Some(Event::Enter(entry)));
        }
        let mut digest = Digest::Missing;
        if entry.kind == FileType::RegularFile
            && let Some(digests) = &mut self.digests
        {
            ensure!(read_line(digests, &mut self.line)?, "there are more files than digests");
            digest = Digest::parse(&self.line)?;
        }
        Ok(Some(Event::Entry(entry, digest)))
    }
}

fn read_line(from: &mut BufReader<File>, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    if from.read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    ensure!(line.pop() == Some(b'\n'), "the last line is cut short");
    Ok(true)
}

fn checked<H: DeserializeOwned>(path: &Path, sum: impl Fn(&H) -> &String) -> Result<(H, BufReader<File>)> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let read = || -> Result<(H, BufReader<File>)> {
        let mut file = File::open(path)?;
        let mut bytes = [0; HEADER];
        file.read_exact(&mut bytes).context("it has no header")?;
        let Format { format } = serde_json::from_slice(&bytes).context("its header does not parse")?;
        if format > FORMAT {
            bail!("it has format {format}, and this cc-warm knows {FORMAT}: a newer one wrote it");
        }
        let header: H = serde_json::from_slice(&bytes).context("its header does not parse")?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let got = file.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            hasher.update(&buffer[..got]);
        }
        ensure!(hasher.finalize().to_hex().as_str() == sum(&header), "its checksum is wrong: it is damaged");
        file.seek(SeekFrom::Start(HEADER as u64))?;
        Ok((header, BufReader::with_capacity(1 << 16, file)))
    };
    read().with_context(|| format!("`{}` cannot be used", path.display()))
}

/// A catalog read in step with a walk in the same order.
#[derive(Debug)]
pub struct Cursor {
    reader: Reader,
    ahead: Option<Event>,
    /// Folders that the walk is in and the catalog does not have.
    strange: usize,
}

impl Cursor {
    /// In the folder at the top; with that folder's entry.
    pub fn new(mut reader: Reader) -> Result<(Self, Entry)> {
        let Some(Event::Enter(top)) = reader.next()? else { bail!("a catalog begins with its top") };
        let ahead = reader.next()?;
        Ok((Self { reader, ahead, strange: 0 }, top))
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.reader.header()
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        let next = self.reader.next()?;
        Ok(std::mem::replace(&mut self.ahead, next))
    }

    /// What the catalog has as `name` in this folder. Names must be asked for in order.
    pub fn find(&mut self, name: &[u8]) -> Result<Option<(Entry, Digest)>> {
        if self.strange > 0 {
            return Ok(None);
        }
        while let Some(Event::Entry(entry, _)) = &self.ahead {
            if *entry.name > *name {
                return Ok(None);
            }
            let same = entry.name == name;
            if let Some(Event::Entry(entry, digest)) = self.advance()?
                && same
            {
                return Ok(Some((entry, digest)));
            }
        }
        Ok(None)
    }

    /// The next entry of this folder that is no folder, whatever it is called.
    pub fn next_entry(&mut self) -> Result<Option<(Entry, Digest)>> {
        if matches!(self.ahead, Some(Event::Entry(..)))
            && let Some(Event::Entry(entry, digest)) = self.advance()?
        {
            return Ok(Some((entry, digest)));
        }
        Ok(None)
    }

    /// The name of the next folder in this one, once all else was asked for.
    #[must_use]
    pub fn next_folder(&self) -> Option<&[u8]> {
        match &self.ahead {
            Some(Event::Enter(entry)) => Some(&entry.name),
            _ => None,
        }
    }

    /// Follows the walk into the folder `name`; its entry if the catalog has it.
    pub fn enter(&mut self, name: &[u8]) -> Result<Option<Entry>> {
        if self.strange == 0 {
            while let Some(event) = &self.ahead {
                match event {
                    Event::Entry(..) => _ = self.advance()?,
                    Event::Enter(entry) if *entry.name < *name => {
                        self.advance()?;
                        self.skip_folder()?;
                    }
                    Event::Enter(entry) if entry.name == name => {
                        if let Some(Event::Enter(entry)) = self.advance()? {
                            return Ok(Some(entry));
                        }
                    }
                    _ => break,
                }
            }
        }
        self.strange += 1;
        Ok(None)
    }

    /// Follows the walk back up.
    pub fn leave(&mut self) -> Result<()> {
        if self.strange > 0 {
            self.strange -= 1;
            return Ok(());
        }
        self.skip_folder()
    }

    /// The walk is in a folder that the catalog, it turned out, is not to be believed of.
    pub fn stray(&mut self) {
        self.strange += 1;
    }

    fn skip_folder(&mut self) -> Result<()> {
        let mut depth = 1_u64;
        while depth > 0 {
            match self.advance()? {
                Some(Event::Enter(_)) => depth += 1,
                Some(Event::Leave) => depth -= 1,
                Some(Event::Entry(..)) => {}
                None => bail!("a catalog ends within a folder"),
            }
        }
        Ok(())
    }
}
