//! Text files looked through once: whether every line is sound, and what the columns are.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use arrow_schema::{Field, Schema};
use rayon::prelude::*;

use super::blocks::{Block, Blocks, Format};
use super::csv::{Field as CsvField, Records};
use super::error::{Flaw, TextError};
use super::json::{Cursor, Token};
use super::shape::{Place, Shape};
use super::types::{Asked, Type};

/// Blocks that are looked at together.
const TOGETHER: usize = 8;

/// What files of one format hold.
#[derive(Debug)]
pub struct Survey {
    pub(super) format: Format,
    pub(super) files: Vec<Seen>,
    root: Shape,
}

/// What is known of one file.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    array: bool,
    names: HashSet<String>,
}

/// A file that is being looked through.
pub struct Look {
    opened: Opened,
    seen: Seen,
}

/// A file under way.
pub(super) struct Opened {
    blocks: Blocks,
    first: Option<Block>,
    pub(super) header: Vec<String>,
}

impl Survey {
    /// Nothing looked through yet.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            files: Vec::new(),
            root: Shape::default(),
        }
    }

    /// Begins to look a file through.
    ///
    /// # Errors
    /// If it can't be read, or its header is wrong.
    pub fn begin(&mut self, path: &Path) -> Result<Look, TextError> {
        let opened = Opened::new(path, self.format)?;
        let mut next = 0;
        for name in &opened.header {
            self.root.place(name, &mut next);
        }
        let names = opened.header.iter().cloned().collect();
        let (path, rows, array) = (path.to_owned(), 0, opened.blocks.array);
        Ok(Look {
            opened,
            seen: Seen {
                path,
                rows,
                array,
                names,
            },
        })
    }

    /// Looks through some more of the file that was begun last; false at its end.
    ///
    /// # Errors
    /// If it can't be read, or a line is wrong.
    pub fn step(&mut self, look: &mut Look) -> Result<bool, TextError> {
        let (format, file) = (self.format, self.files.len());
        let blocks = look.opened.blocks()?;
        let header = &look.opened.header;
        let found: Vec<_> = blocks
            .par_iter()
            .map(|block| looked(block, format, header, file))
            .collect();
        for one in found {
            let (rows, shape) = one?;
            look.seen.rows += rows;
            look.seen.names.extend(shape.names.iter().cloned());
            self.root.merge(shape);
        }
        Ok(!blocks.is_empty())
    }

    /// Notes what was seen of a file at its end.
    pub fn finish(&mut self, look: Look) {
        self.files.push(look.seen);
    }

    /// The columns, each of the type that it has if it is asked to be something.
    pub fn schema(&self, asked: impl Fn(&str) -> Asked) -> Schema {
        let types = self.types(asked).into_iter();
        Schema::new(
            types
                .map(|(name, kind)| Field::new(name, kind.arrow(), true))
                .collect::<Vec<_>>(),
        )
    }

    pub(super) fn types(&self, asked: impl Fn(&str) -> Asked) -> Vec<(String, Type)> {
        let json = self.format == Format::Json;
        let columns = self.root.names.iter().zip(&self.root.fields);
        columns
            .map(|(name, shape)| (name.clone(), Type::of(shape, asked(name), json)))
            .collect()
    }

    /// What the values of a column are.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Shape> {
        self.root.field(name)
    }

    /// The path of a file.
    #[must_use]
    pub fn path(&self, file: usize) -> &Path {
        &self.files[file].path
    }

    /// What a row of a file is called: a line, or an item of the array that the file is.
    #[must_use]
    pub fn row(&self, file: usize) -> &'static str {
        row(self.files[file].array)
    }

    /// The rows of a file.
    #[must_use]
    pub fn rows(&self, file: usize) -> u64 {
        self.files[file].rows
    }

    /// The first file that has rows and not this column.
    #[must_use]
    pub fn lacking(&self, name: &str) -> Option<usize> {
        let lacks = |file: &Seen| file.rows > 0 && !file.names.contains(name);
        self.files.iter().position(lacks)
    }
}

impl Look {
    /// What a row of the file is called.
    #[must_use]
    pub fn row(&self) -> &'static str {
        row(self.seen.array)
    }
}

fn row(array: bool) -> &'static str {
    if array { "item" } else { "line" }
}

impl Opened {
    pub(super) fn new(path: &Path, format: Format) -> Result<Self, TextError> {
        let mut blocks = Blocks::open(path, format)?;
        let (header, first) = blocks.header()?;
        Ok(Self {
            blocks,
            first,
            header,
        })
    }

    /// The next blocks, none at the end.
    pub(super) fn blocks(&mut self) -> Result<Vec<Block>, TextError> {
        let mut found: Vec<_> = self.first.take().into_iter().collect();
        while found.len() < rayon::current_num_threads().min(TOGETHER) {
            match self.blocks.next()? {
                Some(block) => found.push(block),
                None => break,
            }
        }
        Ok(found)
    }
}

fn looked(
    block: &Block,
    format: Format,
    header: &[String],
    file: usize,
) -> Result<(u64, Shape), TextError> {
    let mut root = Shape::default();
    let rows = match format {
        Format::Json => each_line(block, |row, line| {
            let mut cursor = object(row)?;
            root.see(&mut cursor, (file, line))?;
            cursor.end()
        })?,
        Format::Csv(delimiter) => {
            let places: Vec<_> = header.iter().map(|name| root.place(name, &mut 0)).collect();
            each_record(block, delimiter, header.len(), |fields, line| {
                let place: Place = (file, line);
                for (&at, field) in places.iter().zip(fields) {
                    root.fields[at].see_field(field, place);
                }
                Ok(())
            })?
        }
    };
    Ok((rows, root))
}

/// Hands on every line that is not blank, with its number, and counts them.
pub(super) fn each_line(
    block: &Block,
    mut each: impl FnMut(&str, u64) -> Result<(), Flaw>,
) -> Result<u64, TextError> {
    let (mut rows, mut line) = (0, block.line);
    for row in block.text()?.split('\n') {
        if !row.trim_ascii().is_empty() {
            each(row, line).map_err(|flaw| TextError::Line { line, flaw })?;
            rows += 1;
        }
        line += 1;
    }
    Ok(rows)
}

/// Hands on every record of CSV, which have so many fields, with its line, and counts them.
pub(super) fn each_record(
    block: &Block,
    delimiter: u8,
    expected: usize,
    mut each: impl FnMut(&[CsvField<'_>], u64) -> Result<(), Flaw>,
) -> Result<u64, TextError> {
    let mut records = Records::new(block.text()?, delimiter, block.line);
    let (mut rows, mut fields) = (0, Vec::new());
    while let Some(line) = records.next(&mut fields)? {
        let found = fields.len();
        let sound = if found == expected {
            each(&fields, line)
        } else {
            Err(Flaw::Fields { found, expected })
        };
        sound.map_err(|flaw| TextError::Line { line, flaw })?;
        rows += 1;
    }
    Ok(rows)
}

/// A place before the object of a line.
pub(super) fn object(row: &str) -> Result<Cursor<'_>, Flaw> {
    let mut cursor = Cursor::new(row);
    if cursor.token()? == Token::Object {
        Ok(cursor)
    } else {
        Err(Flaw::NoObject)
    }
}
