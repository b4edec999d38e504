//! Arrow arrays made of the values of a column, each of the type that is known beforehand.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, Int64Builder, LargeBinaryBuilder, LargeStringBuilder,
    UInt64Builder,
};
use arrow_array::{ArrayRef, LargeListArray, NullArray, StructArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};

use super::csv::Field;
use super::error::Flaw;
use super::json::{Cursor, Token};
use super::types::{Type, arrow_fields, item_field};

/// One column under way.
pub(super) enum Builder {
    Null(usize),
    Bool(BooleanBuilder),
    Int(Int64Builder),
    UInt(UInt64Builder),
    Float(Float64Builder),
    Text(LargeStringBuilder),
    Json(LargeBinaryBuilder),
    List(Lists),
    Struct(Structs),
}

pub(super) struct Lists {
    item: Box<Builder>,
    kind: Type,
    ends: Vec<i64>,
    length: i64,
    valid: NullBufferBuilder,
}

pub(super) struct Structs {
    kinds: Vec<(String, Type)>,
    fields: Vec<Builder>,
    index: HashMap<String, usize>,
    filled: Vec<usize>,
    rows: usize,
    valid: NullBufferBuilder,
}

impl Builder {
    pub(super) fn new(kind: &Type) -> Self {
        match kind {
            Type::Null => Self::Null(0),
            Type::Bool => Self::Bool(BooleanBuilder::new()),
            Type::Int => Self::Int(Int64Builder::new()),
            Type::UInt => Self::UInt(UInt64Builder::new()),
            Type::Float => Self::Float(Float64Builder::new()),
            Type::Text => Self::Text(LargeStringBuilder::new()),
            Type::Json => Self::Json(LargeBinaryBuilder::new()),
            Type::List(item) => Self::List(Lists {
                item: Box::new(Self::new(item)),
                kind: (**item).clone(),
                ends: vec![0],
                length: 0,
                valid: NullBufferBuilder::new(0),
            }),
            Type::Struct(kinds) => Self::Struct(Structs::new(kinds)),
        }
    }

    pub(super) fn null(&mut self) {
        match self {
            Self::Null(rows) => *rows += 1,
            Self::Bool(values) => values.append_null(),
            Self::Int(values) => values.append_null(),
            Self::UInt(values) => values.append_null(),
            Self::Float(values) => values.append_null(),
            Self::Text(values) => values.append_null(),
            Self::Json(values) => values.append_null(),
            Self::List(lists) => lists.close(false),
            Self::Struct(structs) => structs.close(false),
        }
    }

    /// Passes a value of JSON and adds it.
    pub(super) fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Flaw> {
        let token = cursor.token()?;
        if token == Token::Null {
            cursor.word(token)?;
            self.null();
            return Ok(());
        }
        match (self, token) {
            (Self::Json(values), _) => values.append_value(cursor.raw()?),
            (Self::Text(values), Token::Text) => values.append_value(cursor.string()?),
            (Self::Text(values), _) => values.append_value(cursor.raw()?),
            (Self::Bool(values), Token::Bool(value)) => {
                cursor.word(token)?;
                values.append_value(value);
            }
            (Self::Float(values), Token::Bool(value)) => {
                cursor.word(token)?;
                values.append_value(f64::from(u8::from(value)));
            }
            (Self::Float(values), Token::Number) => values.append_value(parsed(cursor.number()?)?),
            (Self::Int(values), Token::Number) => values.append_value(parsed(cursor.number()?)?),
            (Self::UInt(values), Token::Number) => values.append_value(parsed(cursor.number()?)?),
            (Self::List(lists), Token::List) => {
                cursor.list(|cursor| lists.push(cursor))?;
                lists.close(true);
            }
            (Self::Struct(structs), Token::Object) => structs.push(cursor)?,
            _ => return Err(Flaw::Changed),
        }
        Ok(())
    }

    /// Adds a field of CSV; a quoted empty one is an empty text.
    pub(super) fn push_field(&mut self, field: &Field<'_>) -> Result<(), Flaw> {
        let text: &str = &field.text;
        match self {
            Self::Text(values) if field.quoted || !text.is_empty() => values.append_value(text),
            other if text.is_empty() => other.null(),
            Self::Bool(values) => values.append_value(truth(text).ok_or(Flaw::Changed)?),
            Self::Int(values) => values.append_value(parsed(text)?),
            Self::UInt(values) => values.append_value(parsed(text)?),
            Self::Float(values) => values.append_value(match truth(text) {
                Some(value) => f64::from(u8::from(value)),
                None => parsed(text)?,
            }),
            _ => return Err(Flaw::Changed),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> ArrayRef {
        match self {
            Self::Null(rows) => Arc::new(NullArray::new(rows)),
            Self::Bool(mut values) => Arc::new(values.finish()),
            Self::Int(mut values) => Arc::new(values.finish()),
            Self::UInt(mut values) => Arc::new(values.finish()),
            Self::Float(mut values) => Arc::new(values.finish()),
            Self::Text(mut values) => Arc::new(values.finish()),
            Self::Json(mut values) => Arc::new(values.finish()),
            Self::List(lists) => Arc::new(lists.finish()),
            Self::Struct(structs) => Arc::new(structs.finish()),
        }
    }
}

impl Lists {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Flaw> {
        self.length += 1;
        self.item.push(cursor)
    }

    fn close(&mut self, valid: bool) {
        self.ends.push(self.length);
        self.valid.append(valid);
    }

    fn finish(mut self) -> LargeListArray {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        let (items, field) = (self.item.finish(), item_field(&self.kind));
        LargeListArray::new(field, offsets, items, self.valid.finish())
    }
}

impl Structs {
    pub(super) fn new(kinds: &[(String, Type)]) -> Self {
        let names = kinds
            .iter()
            .enumerate()
            .map(|(at, (name, _))| (name.clone(), at));
        Self {
            kinds: kinds.to_vec(),
            fields: kinds.iter().map(|(_, kind)| Builder::new(kind)).collect(),
            index: names.collect(),
            filled: vec![0; kinds.len()],
            rows: 0,
            valid: NullBufferBuilder::new(0),
        }
    }

    /// Passes an object and adds it; a key that is no field is passed.
    pub(super) fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Flaw> {
        let mut next = 0;
        cursor.object(|cursor, key| {
            let expected = self.kinds.get(next).is_some_and(|(name, _)| name == key);
            let place = if expected {
                Some(next)
            } else {
                self.index.get(&**key).copied()
            };
            let Some(place) = place else {
                return cursor.raw().map(drop);
            };
            next = place + 1;
            self.filled[place] = self.rows + 1;
            self.fields[place].push(cursor)
        })?;
        self.close(true);
        Ok(())
    }

    /// Ends a row: fields that it has not are null.
    fn close(&mut self, valid: bool) {
        self.rows += 1;
        for (field, filled) in self.fields.iter_mut().zip(&self.filled) {
            if *filled < self.rows {
                field.null();
            }
        }
        self.valid.append(valid);
    }

    pub(super) fn finish(mut self) -> StructArray {
        let fields = arrow_fields(&self.kinds);
        let arrays = self.fields.into_iter().map(Builder::finish).collect();
        let valid = self.valid.finish();
        StructArray::try_new_with_length(fields, arrays, valid, self.rows)
            .expect("every field has a value for every row")
    }
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, Flaw> {
    text.parse().map_err(|_| Flaw::Changed)
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}
