//! Rows out of files of text, JSON Lines and CSV: sound lines only, and no value changed.
//!
//! One file is whole or broken for whoever reads it, whichever of its columns they need.

mod array;
mod blocks;
mod builder;
mod csv;
mod error;
mod json;
mod kind;
mod numbers;
mod reader;
mod shape;
mod strings;
mod survey;
mod types;

pub use blocks::Format;
pub use error::TextError;
pub use kind::Kind;
pub use reader::Reader;
pub use survey::Survey;
pub use types::Asked;
