//! Files read in blocks of whole records, unpacked on the way.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use super::array::{ArrayLines, begun};
use super::csv::{Records, last_end};
use super::error::{Flaw, TextError};

/// Bytes that are read at a time, and that a record may have at most.
const BLOCK: usize = 4 << 20;
const LONGEST: usize = 1 << 30;

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// RFC 4180, with a header, and this between fields.
    Csv(u8),
}

/// Some whole records of a file, and the line at which they begin.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    start: usize,
    pub(super) line: u64,
}

impl Block {
    pub(super) fn text(&self) -> Result<&str, TextError> {
        std::str::from_utf8(&self.bytes[self.start..]).map_err(|error| {
            let before = &self.bytes[..self.start + error.valid_up_to()];
            let line = self.line + newlines(&before[self.start..]);
            let flaw = Flaw::Encoding;
            TextError::Line { line, flaw }
        })
    }
}

/// The blocks of one file, in order.
pub(super) struct Blocks {
    input: Box<dyn Read + Send>,
    format: Format,
    held: Vec<u8>,
    line: u64,
    begun: bool,
    ended: bool,
    /// Whether lines are the items of a JSON array.
    pub(super) array: bool,
}

impl Blocks {
    /// Opens a file; `.gz` and `.zst` are unpacked.
    ///
    /// JSON that is not called `.jsonl` or `.ndjson` may be an array, whose items are its lines.
    pub(super) fn open(path: &Path, format: Format) -> Result<Self, TextError> {
        let mut input = unpacked(path)?;
        let array = format == Format::Json && may_be_array(path) && {
            let (head, array) = begun(&mut input)?;
            input = if array {
                Box::new(ArrayLines::new(input))
            } else {
                Box::new(Cursor::new(head).chain(input))
            };
            array
        };
        Ok(Self {
            input,
            format,
            held: Vec::new(),
            line: 1,
            begun: false,
            ended: false,
            array,
        })
    }

    /// Reads the header of a CSV file, if there is one, and the block behind it.
    pub(super) fn header(&mut self) -> Result<(Vec<String>, Option<Block>), TextError> {
        let Format::Csv(delimiter) = self.format else {
            return Ok((Vec::new(), None));
        };
        while let Some(mut block) = self.next()? {
            let (text, mut fields) = (block.text()?, Vec::new());
            let mut records = Records::new(text, delimiter, block.line);
            if let Some(line) = records.next(&mut fields)? {
                let names: Vec<_> = fields.iter().map(|f| f.text.to_string()).collect();
                refuse_names(&names, line)?;
                let (passed, line) = records.rest();
                block.start += passed;
                block.line = line;
                return Ok((names, Some(block)));
            }
        }
        Ok((Vec::new(), None))
    }

    pub(super) fn next(&mut self) -> Result<Option<Block>, TextError> {
        loop {
            let end = if self.ended {
                Some(self.held.len())
            } else {
                self.read()?;
                self.last_end()
            };
            if let Some(end) = end.filter(|&end| end > 0) {
                let rest = self.held.split_off(end);
                let bytes = std::mem::replace(&mut self.held, rest);
                let line = self.line;
                self.line += newlines(&bytes);
                let start = 0;
                return Ok(Some(Block { bytes, start, line }));
            }
            if self.ended {
                return Ok(None);
            }
            if self.held.len() > LONGEST {
                let (line, flaw) = (self.line, Flaw::Long);
                return Err(TextError::Line { line, flaw });
            }
        }
    }

    /// Reads a block, or as much as is held already, so that a long record takes linear time.
    fn read(&mut self) -> Result<(), TextError> {
        let wanted = BLOCK.max(self.held.len());
        let before = self.held.len();
        let found = (&mut self.input)
            .take(wanted as u64)
            .read_to_end(&mut self.held)?;
        self.ended = found < wanted;
        if !self.begun && self.held[before..].starts_with(b"\xef\xbb\xbf") {
            self.held.drain(..3);
        }
        self.begun = true;
        Ok(())
    }

    fn last_end(&self) -> Option<usize> {
        if self.ended {
            return Some(self.held.len());
        }
        match self.format {
            Format::Json => self
                .held
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map(|at| at + 1),
            Format::Csv(delimiter) => last_end(&self.held, delimiter),
        }
    }
}

fn unpacked(path: &Path) -> Result<Box<dyn Read + Send>, TextError> {
    let file = File::open(path)?;
    // A shard of no bytes has no rows, packed or not.
    let packed = path
        .extension()
        .filter(|_| file.metadata().map_or(true, |is| is.len() > 0));
    let packed = packed.map(OsStr::to_ascii_lowercase);
    Ok(match packed.as_ref().and_then(|s| s.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::stream::read::Decoder::new(file)?),
        _ => Box::new(file),
    })
}

fn may_be_array(path: &Path) -> bool {
    let named = path.to_string_lossy().to_ascii_lowercase();
    let bare = named.trim_end_matches(".gz").trim_end_matches(".zst");
    !matches!(bare.rsplit('.').next(), Some("jsonl" | "ndjson"))
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

fn refuse_names(names: &[String], line: u64) -> Result<(), TextError> {
    for (place, name) in names.iter().enumerate() {
        let flaw = if names[..place].contains(name) {
            Flaw::Header { name: name.clone() }
        } else if name.contains('\0') {
            Flaw::Zero
        } else {
            continue;
        };
        return Err(TextError::Line { line, flaw });
    }
    Ok(())
}
