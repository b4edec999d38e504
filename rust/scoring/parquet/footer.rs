//! The footer of a Parquet file, whose numbers are checked before anything is done with them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::io::Chunks;
use super::thrift::{LIST, Reader, STRUCT, broken};

/// The bytes at both ends of a file whose footer is not encrypted.
const MAGIC: &[u8; 4] = b"PAR1";
/// What Parquet calls a field that is there any number of times.
const REPEATED: i64 = 2;

/// What a footer says that copies and checks depend on.
#[derive(Debug, Default)]
pub struct Footer {
    /// Rows of the file.
    pub rows: i64,
    /// Its row groups.
    pub groups: Vec<Group>,
    /// Of each column, whether it is in no list, so that it has a value for each row.
    flat: Vec<bool>,
}

/// One row group.
#[derive(Debug, Default)]
pub struct Group {
    pub(super) rows: i64,
    pub(super) columns: Vec<Column>,
}

/// Where one column chunk lies; chunks in other files and encrypted ones are not told.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Whether its column, or the struct or list that it is of, was asked for.
    pub(super) asked: bool,
    pub(super) values: i64,
    pub(super) size: i64,
    data: i64,
    dictionary: Option<i64>,
    elsewhere: bool,
    described: bool,
}

impl Column {
    /// Where the first page is: some writers say 0 of a dictionary that is not there.
    pub(super) fn start(&self) -> i64 {
        let dictionary = self.dictionary.filter(|&start| start > 0);
        dictionary.map_or(self.data, |start| start.min(self.data))
    }

    /// Whether its pages are in this file, and not encrypted.
    pub(super) fn is_here(&self) -> bool {
        self.described && !self.elsewhere
    }
}

/// Opens a file and reads its footer; `asked` tells the columns that are asked for.
///
/// # Errors
/// If it is no Parquet file, or the numbers of its footer disagree.
pub(super) fn open(path: &Path, asked: impl Fn(&[u8]) -> bool) -> io::Result<(Chunks, Footer)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut end = [0; 8];
    if size >= 12 {
        file.seek(SeekFrom::Start(size - 8))?;
        file.read_exact(&mut end)?;
    }
    if &end[4..] != MAGIC {
        return Err(broken("no end of a Parquet file"));
    }
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if length > size - 12 {
        return Err(broken("a footer that is longer than the file"));
    }
    let begin = size - 8 - length;
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    (&mut file).take(length).read_to_end(&mut bytes)?;
    let footer = parse(&bytes, asked)?;
    check(&footer, begin.cast_signed())?;
    Ok((Chunks(file), footer))
}

fn parse(bytes: &[u8], asked: impl Fn(&[u8]) -> bool) -> io::Result<Footer> {
    let mut footer = Footer::default();
    Reader::new(bytes).fields(|reader, field| {
        match field {
            (2, LIST) => footer.flat = flat(reader)?,
            (3, kind) => footer.rows = reader.integer(kind)?,
            (4, LIST) => {
                for _ in 0..reader.structs(LIST)? {
                    footer.groups.push(group(reader, &asked)?);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(footer)
}

/// Tells of each column of a schema whether neither it nor what it is in is repeated.
fn flat(reader: &mut Reader<&[u8]>) -> io::Result<Vec<bool>> {
    let mut found = Vec::new();
    // The structs and lists around the next element: children that are left, and whether flat.
    let mut around: Vec<(i64, bool)> = Vec::new();
    for number in 0..reader.structs(LIST)? {
        let (mut repetition, mut children) = (0, 0);
        reader.fields(|reader, field| {
            match field {
                (3, kind) => repetition = reader.integer(kind)?,
                (5, kind) => children = reader.integer(kind)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        while around.pop_if(|(left, _)| *left <= 0).is_some() {}
        let outer = around.last_mut().is_none_or(|(left, flat)| {
            *left -= 1;
            *flat
        });
        // What the root says of itself means nothing.
        let flat = number == 0 || (outer && repetition != REPEATED);
        if children > 0 {
            around.push((children, flat));
        } else if number > 0 {
            found.push(flat);
        }
    }
    Ok(found)
}

fn group(reader: &mut Reader<&[u8]>, asked: &impl Fn(&[u8]) -> bool) -> io::Result<Group> {
    let mut group = Group::default();
    reader.fields(|reader, field| {
        match field {
            (1, LIST) => {
                for _ in 0..reader.structs(LIST)? {
                    group.columns.push(column(reader, asked)?);
                }
            }
            (3, kind) => group.rows = reader.integer(kind)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(group)
}

fn column(reader: &mut Reader<&[u8]>, asked: &impl Fn(&[u8]) -> bool) -> io::Result<Column> {
    let mut column = Column::default();
    reader.fields(|reader, field| {
        match field {
            (1, kind) => column.elsewhere = !reader.text(kind)?.is_empty(),
            (3, STRUCT) => {
                column.described = true;
                reader.fields(|reader, (number, kind)| {
                    match number {
                        3 => column.asked = asked(&reader.first_text(kind)?),
                        5 => column.values = reader.integer(kind)?,
                        7 => column.size = reader.integer(kind)?,
                        9 => column.data = reader.integer(kind)?,
                        11 => column.dictionary = Some(reader.integer(kind)?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(column)
}

/// Refuses numbers that cannot all be true; pages lie between the magic number and `begin`.
fn check(footer: &Footer, begin: i64) -> io::Result<()> {
    let mut rows: i64 = 0;
    for (number, group) in footer.groups.iter().enumerate() {
        let sum = rows.checked_add(group.rows).filter(|_| group.rows >= 0);
        rows = sum.ok_or_else(|| {
            broken(&format!(
                "a row group, number {number}, of {} rows",
                group.rows
            ))
        })?;
        for (place, column) in group.columns.iter().enumerate() {
            if group.rows == 0 && column.values == 0 || !column.is_here() {
                continue;
            }
            let flat = footer.flat.get(place) == Some(&true);
            if column.values < group.rows || (flat && column.values != group.rows) {
                return Err(broken(&format!(
                    "a column of {} values in row group {number}, which has {} rows",
                    column.values, group.rows
                )));
            }
            let (start, size) = (column.start(), column.size);
            let inside = start.checked_add(size).is_some_and(|end| end <= begin);
            if size < 0 || start < 4 || column.dictionary > Some(column.data) || !inside {
                return Err(broken(&format!(
                    "a column of {size} bytes at {start} in row group {number}, where {begin} \
                     bytes lie before the footer"
                )));
            }
        }
    }
    if rows != footer.rows {
        return Err(broken(&format!(
            "{} rows by its footer, {rows} in its row groups",
            footer.rows
        )));
    }
    Ok(())
}
