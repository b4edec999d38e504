//! Thrift's compact protocol, as far as Parquet's footers and page headers need it.
//!
//! What is read may be damaged: nothing is allocated or trusted by what it says of its length.

use std::io::{self, ErrorKind, Read};

use crate::scoring::varint;

/// Structs within structs, beyond which nothing of Parquet goes.
const DEEPEST: usize = 32;

/// Reads values from `input`, and counts the bytes.
pub(super) struct Reader<R> {
    input: R,
    /// Bytes read so far.
    pub(super) read: u64,
    depth: usize,
}

/// What the next field of a struct is: its number and its type.
pub(super) type Field = (i64, u8);

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const INTEGERS: std::ops::RangeInclusive<u8> = 4..=6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub(super) const STRUCT: u8 = 12;
const UUID: u8 = 13;

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            read: 0,
            depth: 0,
        }
    }

    /// The input behind what was read.
    pub(super) fn into_inner(self) -> R {
        self.input
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    fn unsigned(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(broken("a number of more than 64 bits"))
    }

    /// A whole number of a field of type `kind`.
    pub(super) fn integer(&mut self, kind: u8) -> io::Result<i64> {
        if !INTEGERS.contains(&kind) {
            return Err(broken("a field of another type than a whole number"));
        }
        let number = self.unsigned()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// The length of a list of structs.
    pub(super) fn structs(&mut self, kind: u8) -> io::Result<u64> {
        match self.list(kind)? {
            (length, STRUCT) => Ok(length),
            (0, _) => Ok(0),
            _ => Err(broken("a list of something else than structs")),
        }
    }

    fn list(&mut self, kind: u8) -> io::Result<(u64, u8)> {
        if kind != LIST && kind != SET {
            return Err(broken("a field of another type than a list"));
        }
        let head = self.byte()?;
        let length = match head >> 4 {
            15 => self.unsigned()?,
            short => u64::from(short),
        };
        Ok((length, head & 15))
    }

    /// Calls `take` for each field of a struct; it returns whether it has read the value.
    pub(super) fn fields(
        &mut self,
        mut take: impl FnMut(&mut Self, Field) -> io::Result<bool>,
    ) -> io::Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(broken("structs that are nested too deeply"));
        }
        let mut number = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                self.depth -= 1;
                return Ok(());
            }
            let kind = head & 15;
            number = match head >> 4 {
                0 => self.integer(*INTEGERS.start())?,
                step => number + i64::from(step),
            };
            if !take(self, (number, kind))? {
                self.skip(kind)?;
            }
        }
    }

    fn skip(&mut self, kind: u8) -> io::Result<()> {
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.byte().map(|_| ()),
            4..=6 => self.unsigned().map(|_| ()),
            DOUBLE => self.pass(8),
            UUID => self.pass(16),
            BINARY => {
                let length = self.unsigned()?;
                self.pass(length)
            }
            LIST | SET => {
                let (length, kind) = self.list(kind)?;
                (0..length).try_for_each(|_| self.skip_item(kind))
            }
            MAP => {
                let length = self.unsigned()?;
                let kinds = if length > 0 { self.byte()? } else { 0 };
                (0..length).try_for_each(|_| {
                    self.skip_item(kinds >> 4)?;
                    self.skip_item(kinds & 15)
                })
            }
            STRUCT => self.fields(|_, _| Ok(false)),
            _ => Err(broken("a field of a type that Thrift does not have")),
        }
    }

    /// Skips an item of a list, where a bool takes a byte.
    fn skip_item(&mut self, kind: u8) -> io::Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(broken("lists that are nested too deeply"));
        }
        let kind = if kind == TRUE || kind == FALSE {
            BYTE
        } else {
            kind
        };
        self.skip(kind)?;
        self.depth -= 1;
        Ok(())
    }

    fn pass(&mut self, length: u64) -> io::Result<()> {
        let passed = io::copy(&mut (&mut self.input).take(length), &mut io::sink())?;
        self.read += passed;
        if passed < length {
            return Err(broken("an end before its end"));
        }
        Ok(())
    }

    /// The bytes of a string of at most 64 KiB.
    pub(super) fn text(&mut self, kind: u8) -> io::Result<Vec<u8>> {
        if kind != BINARY {
            return Err(broken("a field of another type than text"));
        }
        let length = self.unsigned()?;
        if length > 1 << 16 {
            return Err(broken("a name of more than 64 KiB"));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(length).read_to_end(&mut bytes)? as u64;
        self.read += read;
        if read < length {
            return Err(broken("an end before its end"));
        }
        Ok(bytes)
    }

    /// The first of a list of texts.
    pub(super) fn first_text(&mut self, kind: u8) -> io::Result<Vec<u8>> {
        let (length, item) = self.list(kind)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let first = self.text(item)?;
        (1..length).try_for_each(|_| self.skip_item(item))?;
        Ok(first)
    }
}

pub(super) fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it has {what}"))
}

/// Writes a struct of whole numbers and structs of these.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    /// Adds a whole number as the field that lies `step` after the one before.
    pub(super) fn integer(&mut self, step: u8, number: i32) {
        self.0.push(step << 4 | 5);
        let zigzag = ((number << 1) ^ (number >> 31)).cast_unsigned();
        varint::write(u64::from(zigzag), &mut self.0);
    }

    /// Adds a struct of whole numbers, whose fields have the numbers from 1 on.
    pub(super) fn structure(&mut self, step: u8, numbers: &[i32]) {
        self.0.push(step << 4 | STRUCT);
        for &number in numbers {
            self.integer(1, number);
        }
        self.0.push(0);
    }

    /// The bytes of the struct.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.push(0);
        self.0
    }
}
