//! The type that a column gets, by what its values are and what it is asked to be.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};

use super::kind::Kind;
use super::shape::Shape;

/// What a column is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// What its values are.
    Anything,
    /// What tells one key from another.
    Key,
    /// Text.
    Text,
    /// A number.
    Number,
    /// What is nested or mixed as the JSON that it is written in.
    Json,
    /// Of a list, what its items are, as for `Json`.
    Items,
}

/// How the values of a column are held.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    Null,
    Bool,
    Int,
    UInt,
    Float,
    /// Text; of anything else, the JSON or the field that it is written as.
    Text,
    /// The JSON as it is written.
    Json,
    List(Box<Type>),
    Struct(Vec<(String, Type)>),
}

const BOOLS: [Kind; 3] = [Kind::Bool, Kind::Title, Kind::Upper];
const NUMBERS: [Kind; 10] = [
    Kind::Bool,
    Kind::Title,
    Kind::Upper,
    Kind::Int,
    Kind::Wide,
    Kind::Unsigned,
    Kind::Huge,
    Kind::Odd,
    Kind::Float,
    Kind::Rough,
];

impl Type {
    /// The type of a column.
    pub(super) fn of(shape: &Shape, asked: Asked, json: bool) -> Self {
        let found = Self::plain(shape);
        match (asked, json) {
            (Asked::Text | Asked::Key, _) if found == Self::Null => Self::Text,
            (Asked::Number, _) if found == Self::Null => Self::Float,
            (Asked::Text, false) => Self::Text,
            (Asked::Key, false) if found == Self::Float => Self::Text,
            (Asked::Number, false) if found == Self::Text && numeric(shape) => Self::Float,
            (Asked::Json, true) => Self::written(shape, found),
            (Asked::Items, true) => match (found, &shape.item) {
                (Self::List(item), Some(shape)) => {
                    Self::List(Box::new(Self::written(shape, *item)))
                }
                (found, _) => Self::written(shape, found),
            },
            _ => found,
        }
    }

    fn written(shape: &Shape, found: Self) -> Self {
        let text = shape.only(&[Kind::Text]);
        match found {
            Self::Struct(_) | Self::List(_) => Self::Json,
            Self::Text if !text => Self::Json,
            other => other,
        }
    }

    fn plain(shape: &Shape) -> Self {
        let item = || Self::plain(shape.item.as_deref().unwrap_or(&Shape::default()));
        if shape.only(&[]) {
            Self::Null
        } else if shape.only(&[Kind::List]) {
            Self::List(Box::new(item()))
        } else if shape.only(&[Kind::Object]) && !shape.fields.is_empty() {
            let fields = shape.names.iter().zip(&shape.fields);
            Self::Struct(
                fields
                    .map(|(name, field)| (name.clone(), Self::plain(field)))
                    .collect(),
            )
        } else if BOOLS.iter().any(|&kind| shape.only(&[kind])) {
            Self::Bool
        } else if !numeric(shape) {
            Self::Text
        } else if shape.only(&[Kind::Int, Kind::Wide]) {
            Self::Int
        } else if shape.only(&[Kind::Int, Kind::Wide, Kind::Unsigned]) && !shape.negative {
            Self::UInt
        } else if shape.any(&[Kind::Float, Kind::Rough]) || shape.any(&BOOLS) && !shape.only(&BOOLS)
        {
            Self::Float
        } else {
            Self::Text
        }
    }

    pub(super) fn arrow(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::UInt => DataType::UInt64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::LargeUtf8,
            Self::Json => DataType::LargeBinary,
            Self::List(item) => DataType::LargeList(item_field(item)),
            Self::Struct(fields) => DataType::Struct(arrow_fields(fields)),
        }
    }
}

/// Whether float64 can hold every value, if not always exactly.
fn numeric(shape: &Shape) -> bool {
    shape.only(&NUMBERS)
}

pub(super) fn item_field(item: &Type) -> Arc<Field> {
    Arc::new(Field::new("item", item.arrow(), true))
}

pub(super) fn arrow_fields(fields: &[(String, Type)]) -> Fields {
    fields
        .iter()
        .map(|(name, kind)| Field::new(name, kind.arrow(), true))
        .collect()
}
