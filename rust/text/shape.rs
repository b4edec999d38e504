//! What the values of a column are, gathered over whole files.

use std::collections::HashMap;

use super::csv::Field;
use super::error::Flaw;
use super::json::{Cursor, Token};
use super::kind::Kind;
use super::numbers;

/// The file and the line at which something was first seen.
pub type Place = (usize, u64);

/// What the values of one column are, or the items of its lists, or the fields of its objects.
#[derive(Debug, Default, Clone)]
pub struct Shape {
    seen: [Option<Place>; Kind::NAMED.len()],
    pub(super) negative: bool,
    pub(super) names: Vec<String>,
    pub(super) fields: Vec<Shape>,
    index: HashMap<String, usize>,
    pub(super) item: Option<Box<Shape>>,
}

impl Shape {
    /// Where a kind of value was first seen, if it was.
    #[must_use]
    pub fn first(&self, kind: Kind) -> Option<Place> {
        self.seen[kind as usize]
    }

    /// Whether only values of these kinds were seen, or nothing.
    pub(super) fn only(&self, kinds: &[Kind]) -> bool {
        let allowed = |kind: &Kind| *kind == Kind::Null || kinds.contains(kind);
        Kind::NAMED
            .iter()
            .all(|(kind, _)| allowed(kind) || self.first(*kind).is_none())
    }

    pub(super) fn any(&self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|&kind| self.first(kind).is_some())
    }

    /// The field of this name, if there is one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.index.get(name).map(|&place| &self.fields[place])
    }

    /// The place of a field, which is made if there is none; it is likely the `next` one.
    pub(super) fn place(&mut self, name: &str, next: &mut usize) -> usize {
        let expected = self.names.get(*next).is_some_and(|known| known == name);
        let place = if expected {
            *next
        } else if let Some(&place) = self.index.get(name) {
            place
        } else {
            self.names.push(name.to_owned());
            self.fields.push(Self::default());
            self.index.insert(name.to_owned(), self.fields.len() - 1);
            self.fields.len() - 1
        };
        *next = place + 1;
        place
    }

    /// Passes one value and notes what it is.
    pub(super) fn see(&mut self, cursor: &mut Cursor<'_>, place: Place) -> Result<(), Flaw> {
        let token = cursor.token()?;
        let kind = match token {
            Token::Null | Token::Bool(_) => {
                cursor.word(token)?;
                if token == Token::Null {
                    Kind::Null
                } else {
                    Kind::Bool
                }
            }
            Token::Number => self.number(cursor.number()?, numbers::of_json),
            Token::Text => {
                cursor.quoted()?;
                Kind::Text
            }
            Token::List => {
                let item = self.item.get_or_insert_default();
                cursor.list(|cursor| item.see(cursor, place))?;
                Kind::List
            }
            Token::Object => {
                let mut next = 0;
                cursor.object(|cursor, key| {
                    let field = self.place(key, &mut next);
                    self.fields[field].see(cursor, place)
                })?;
                Kind::Object
            }
        };
        self.note(kind, place);
        Ok(())
    }

    /// Notes what a field of CSV is; an empty one may be nothing or no text.
    pub(super) fn see_field(&mut self, field: &Field<'_>, place: Place) {
        let kind = if field.text.is_empty() {
            Kind::Null
        } else {
            self.number(&field.text, numbers::of_field)
        };
        self.note(kind, place);
    }

    pub(super) fn note(&mut self, kind: Kind, place: Place) {
        self.seen[kind as usize].get_or_insert(place);
    }

    fn number(&mut self, text: &str, kind: impl Fn(&str) -> Kind) -> Kind {
        self.negative |= text.starts_with('-');
        kind(text)
    }

    /// Adds what was seen of later rows.
    pub(super) fn merge(&mut self, later: Self) {
        for (seen, other) in self.seen.iter_mut().zip(later.seen) {
            *seen = seen.or(other);
        }
        self.negative |= later.negative;
        let mut next = 0;
        for (name, field) in later.names.into_iter().zip(later.fields) {
            let place = self.place(&name, &mut next);
            self.fields[place].merge(field);
        }
        if let Some(item) = later.item {
            self.item.get_or_insert_default().merge(*item);
        }
    }
}
